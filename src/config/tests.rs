//! What a person who sets something, or sets it wrongly, gets to see.

use std::collections::BTreeSet;

use super::{keys::KEYS, *};

/// Loads the text of a file, variables and flags, as if the file had been named `f.toml`.
fn load(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, String> {
    let env: Vec<_> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut raw = RawConfig::from_toml("f.toml", file);
    raw.overlay(RawConfig::from_environment(env.into_iter()));
    let mut typed = RawConfig::default();
    for (key, value) in flags {
        typed.set(key, &format!("--{}", key.replace('.', "-")), *value);
    }
    raw.overlay(typed);
    validate::validate(raw).map_err(|it| it.to_string())
}

#[track_caller]
fn complains(file: &str, env: &[(&str, &str)], expected: &[&str]) {
    let shown = load(file, env, &[]).expect_err("a complaint");
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn later_places_win() {
    let file = "[server]\ndata = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\ndrain_delay = \"3s\"\n";
    let env = [("LINESIGHT_SERVER__DATA", "127.0.0.1:3"), ("LINESIGHT_SERVER__ADMIN", "[::1]:4")];
    let config = load(file, &env, &[("server.data", "127.0.0.1:5")]).unwrap();
    assert_eq!(config.server.data.port(), 5, "the flag");
    assert_eq!(config.server.admin.port(), 4, "the variable");
    assert_eq!(config.server.drain_delay, Duration::from_secs(3), "the file");
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(30), "the default");
}

#[test]
fn every_complaint_comes_with_its_place() {
    complains(
        "[http]\nmax_body = \"16 parsecs\"\n  max_conections = 3\nmax_images = \"4\"\nidle_timeout = 5\n\
         max_pixels = -1\n[htpp]\nx = 1\n",
        &[
            ("LINESIGHT_HTTP__HEADER_TIMEOUT", "soon"),
            ("LINESIGHT_HTTP__MAX_BODDY", "1"),
            ("LINESIGHT_SOMETHING_ELSE", "1"),
        ],
        &[
            "f.toml:2:12: http.max_body: \"16 parsecs\" is not a size (as in \"16MiB\", \"500kB\" or 1048576)",
            "f.toml:3:3: unknown key \"http.max_conections\"; did you mean http.max_connections?",
            "f.toml:4:14: http.max_images is a string, not a whole number",
            "f.toml:5:16: http.idle_timeout is an integer, not a string",
            "f.toml:6:14: http.max_pixels: \"-1\" is not a whole number",
            "f.toml:7:2: unknown table \"htpp\"; did you mean http?",
            "LINESIGHT_HTTP__HEADER_TIMEOUT: http.header_timeout: \"soon\" is not a duration (as in \"600ms\", \"3s\" or \"1m 30s\")",
            "LINESIGHT_HTTP__MAX_BODDY: unknown variable \"LINESIGHT_HTTP__MAX_BODDY\"; did you mean LINESIGHT_HTTP__MAX_BODY?",
            "LINESIGHT_SOMETHING_ELSE: unknown variable \"LINESIGHT_SOMETHING_ELSE\"; docs/config.md lists them all",
        ],
    );
}

#[test]
fn what_is_not_toml_is_shown_with_its_place() {
    for (file, starts) in [
        ("[http]\nmax_body = \n", "f.toml:2:"),
        ("[http]\nmax_images = 1\nmax_images = 2\n", "f.toml:3:1: duplicate key"),
        ("http = 3\n", "f.toml:1:8: \"http\" is a table; write [http]"),
        ("max_body = 3\n", "f.toml:1:1: unknown table \"max_body\""),
        ("[http]\nmax_body.x = 3\n", "f.toml:2:"),
        ("[http]\nmax_images = 0x10\n", "f.toml:2:14: "),
    ] {
        let shown = load(file, &[], &[]).unwrap_err();
        assert!(shown.starts_with(starts), "{file:?}: {shown}");
    }
}

#[test]
fn limits_of_zero_and_settings_at_odds_are_refused() {
    complains(
        "[server]\nadmin = \"127.0.0.1:8080\"\n[http]\nmax_images = 0\nmax_body = 0\nbody_timeout = \"0s\"\n",
        &[("LINESIGHT_HTTP__MAX_BYTES_IN_FLIGHT", "1MiB"), ("LINESIGHT_RUNTIME__CORES", "0")],
        &[
            "f.toml:4:14: http.max_images: 0 would refuse everything",
            "f.toml:5:12: http.max_body: 0 would refuse everything",
            "f.toml:6:16: http.body_timeout: 0 would refuse everything",
            "LINESIGHT_RUNTIME__CORES: runtime.cores: \"0\" is neither \"auto\" nor a number from 1 to 1024",
            "http.max_body (16MiB) is more than http.max_bytes_in_flight (1MiB); a body that large could never be read",
            "server.data and server.admin are both 127.0.0.1:8080; two listeners need two addresses",
        ],
    );
    let ports = [("server.data", "127.0.0.1:0"), ("server.admin", "127.0.0.1:0")];
    assert!(load("", &[], &ports).is_ok(), "both from the system");
    for (data, admin, fits) in [
        ("127.0.0.1:1", "127.0.0.2:1", true),
        ("0.0.0.0:1", "127.0.0.1:2", true),
        ("0.0.0.0:1", "127.0.0.1:1", false),
        ("127.0.0.1:1", "[::]:1", false),
        ("0.0.0.0:1", "[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", false),
        ("[::]:0", "0.0.0.0:0", true),
    ] {
        let loaded = load("", &[], &[("server.data", data), ("server.admin", admin)]);
        assert_eq!(loaded.is_ok(), fits, "{data} {admin}: {loaded:?}");
    }
}

#[test]
fn a_wrong_flag_is_named() {
    let shown = load("", &[], &[("server.data", "here")]).unwrap_err();
    assert_eq!(
        shown,
        "--server-data: server.data: \"here\" is not an address (as in \"127.0.0.1:8080\")"
    );
}

#[test]
fn the_named_file_must_be_there_and_the_usual_one_need_not() {
    let env = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let load = |file: Option<&str>, env: Vec<(String, String)>| {
        Config::load(ConfigSources {
            flags: RawConfig::default(),
            env,
            file: file.map(PathBuf::from),
        })
        .map_err(|it| it.to_string())
    };
    let shown = load(Some("/no/such.toml"), Vec::new()).unwrap_err();
    assert!(shown.starts_with("/no/such.toml: cannot be read: No such file"), "{shown}");
    let shown = load(None, env("LINESIGHT_CONFIG", "/no/other.toml")).unwrap_err();
    assert!(shown.starts_with("/no/other.toml: "), "{shown}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.toml");
    std::fs::write(&file, "[models]\npath = \"/m\"\n").unwrap();
    let config = load(file.to_str(), env("LINESIGHT_TEST_ANYTHING", "1")).unwrap();
    assert_eq!(config.models.path, Path::new("/m"));

    let link = dir.path().join("link.toml");
    assert!(is_there(&file) && !is_there(&link));
    std::os::unix::fs::symlink("/no/such.toml", &link).unwrap();
    assert!(is_there(&link), "a link that leads nowhere is not ignored");
}

#[test]
fn what_kubernetes_says_of_a_service_is_passed_over() {
    for (name, value) in [
        ("LINESIGHT_SERVICE_HOST", "10.0.0.7"),
        ("LINESIGHT_SERVICE_PORT", "8080"),
        ("LINESIGHT_SERVICE_PORT_HTTP_DATA", "8080"),
        ("LINESIGHT_ADMIN_SERVICE_HOST", "10.0.0.8"),
        ("LINESIGHT_PORT", "tcp://10.0.0.7:8080"),
        ("LINESIGHT_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
        ("LINESIGHT_PORT_8080_TCP_PROTO", "tcp"),
        ("LINESIGHT_PORT_8080_TCP_PORT", "8080"),
        ("LINESIGHT_PORT_53_UDP_ADDR", "10.0.0.7"),
        ("LINESIGHT_ADMIN_PORT_8082_SCTP", "sctp://10.0.0.8:8082"),
    ] {
        assert_eq!(load("", &[(name, value)], &[]), Ok(Config::default()), "{name}");
    }
    for (name, value) in [
        ("LINESIGHT_SERVER_DATA", "127.0.0.1:1"),
        ("LINESIGHT_PORT", "8080"),
        ("LINESIGHT_PORT_8080", "8080"),
        ("LINESIGHT_PORT_8080_TCP_OTHER", "8080"),
        ("LINESIGHT_PORT_X_TCP", "8080"),
        ("LINESIGHT_SERVER__PORT", "tcp://127.0.0.1:1"),
        ("LINESIGHT_SERVER__SERVICE_PORT", "1"),
    ] {
        let shown = load("", &[(name, value)], &[]).unwrap_err();
        assert!(shown.contains("unknown variable"), "{name}: {shown}");
    }
}

#[test]
fn ort_dylib_path_names_the_library_unless_something_of_ours_does() {
    let load = |file: &str| {
        let mut raw = RawConfig::from_dylib_path("/ort.so");
        raw.overlay(RawConfig::from_toml("f.toml", file));
        validate::validate(raw).unwrap().runtime.library
    };
    let named =
        |path: &str, by: &str| LibraryChoice::Named { path: path.into(), by: by.to_owned() };
    assert_eq!(load(""), named("/ort.so", "ORT_DYLIB_PATH"));
    assert_eq!(load("[runtime]\nlibrary = \"/mine.so\"\n"), named("/mine.so", "f.toml, line 2"));
}

#[test]
fn the_cache_is_where_the_system_keeps_caches_unless_something_of_ours_says_otherwise() {
    let load = |file: &str, variables: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, file).unwrap();
        let env: Vec<_> =
            variables.iter().map(|(name, it)| ((*name).to_owned(), (*it).to_owned())).collect();
        let sources = ConfigSources { flags: RawConfig::default(), env, file: Some(path) };
        let config = Config::load(sources).unwrap();
        (config.models.cache.folder().map(Path::to_path_buf), config.to_toml())
    };
    let (xdg, home) = (("XDG_CACHE_HOME", "/x"), ("HOME", "/h"));
    for (file, variables, expected) in [
        ("", &[xdg, home][..], Some("/x/linesight")),
        ("", &[home], Some("/h/.cache/linesight")),
        ("", &[("XDG_CACHE_HOME", "x"), home], Some("/h/.cache/linesight")),
        ("", &[("XDG_CACHE_HOME", ""), ("HOME", "h")], None),
        ("", &[], None),
        ("[models]\ncache = \"off\"\n", &[home], None),
        ("[models]\ncache = \"/c\"\n", &[home], Some("/c")),
        ("", &[home, ("LINESIGHT_MODELS__CACHE", "c")], Some("c")),
    ] {
        let (folder, printed) = load(file, variables);
        assert_eq!(folder.as_deref(), expected.map(Path::new), "{file:?} {variables:?}");
        let named = file.contains("cache") || variables.len() == 2 && variables[1].1 == "c";
        assert_eq!(printed.contains("cache = \"auto\""), !named, "{printed}");
    }
}

#[test]
fn what_is_printed_gives_the_same_settings_again() {
    let default = Config::default();
    let file = "[http]\nmax_body = 1000\nidle_timeout = \"90s\"\n[models]\npath = 'a \"b\" \\ é'\n\
                [runtime]\ncores = 3\nspin = true\nlibrary = \"/x.so\"\n[log]\nlevel = \"warn,linesight=debug\"\n";
    for config in [default.clone(), load(file, &[], &[]).unwrap()] {
        let printed = config.to_toml();
        let again = load(&printed, &[], &[]).unwrap();
        assert_eq!(again.to_toml(), printed);
        assert_eq!(again.http, config.http);
        assert_eq!(again.digest(), config.digest());
    }
    assert_ne!(load(file, &[], &[]).unwrap().digest(), default.digest());
    let spelt_otherwise = load("[http]\nmax_body = 16777216\n", &[], &[]).unwrap();
    assert_eq!(spelt_otherwise.digest(), default.digest(), "one spelling for each value");
}

#[test]
fn every_key_can_be_set_from_the_environment() {
    for key in KEYS {
        let value = if key.default.is_empty() { "x" } else { key.default };
        let loaded = load("", &[(&key.variable(), value)], &[]);
        assert!(loaded.is_ok(), "{}: {loaded:?}", key.name);
        let wrong = if key.name == "runtime.library" { continue } else { "" };
        let shown = load("", &[(&key.variable(), wrong)], &[]).unwrap_err();
        assert!(shown.starts_with(&key.variable()), "{}: {shown}", key.name);
    }
    let names: BTreeSet<_> = KEYS.iter().map(|it| it.name).collect();
    assert_eq!(names.len(), KEYS.len(), "a key is listed twice");
}

#[test]
fn the_example_file_holds_every_key_at_its_default() {
    let example = include_str!("../../linesight.toml");
    assert_eq!(load(example, &[], &[]), Ok(Config::default()), "as it stands");
    // Prose has a blank after the `#`; a key that is commented out has none.
    let uncommented: String = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|it| !it.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(load(&uncommented, &[], &[]), Ok(Config::default()), "uncommented");
    let keys: String = uncommented
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let expected = Config::default().to_toml().replace("\n\n", "\n");
    assert_eq!(keys, expected, "every key, in order, at its default");
}

#[test]
fn the_documentation_lists_every_key() {
    let table = Config::reference();
    let documented = include_str!("../../docs/config.md").contains(&table);
    assert!(documented, "docs/config.md should have this table:\n\n{table}");
}
