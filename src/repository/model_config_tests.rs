//! Every key of `model.toml`, and every complaint about it.

use super::*;

fn parse(text: &str) -> Result<ModelConfig, Vec<String>> {
    ModelConfig::parse("m/model.toml", text.as_bytes())
        .map_err(|all| all.iter().map(Complaint::to_string).collect())
}

#[test]
fn every_key_is_read() {
    let config = parse(
        "serve = [\"2\", \"1\"]\nrequired = false\n[budget]\ntarget = \"250ms\"\nlimit = \"1s\"\n\
         [runtime]\ndevice = \"cpu\"\nlanes = 2\nmax_batch = 8\nmemory = \"256MiB\"\nweight = 3\n",
    )
    .unwrap();
    let serve: Vec<_> = config.serve.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(serve, ["2", "1"]);
    assert_eq!(config.required, Some(false));
    assert_eq!(config.budget.target, Duration::from_millis(250));
    assert_eq!(config.budget.limit, Duration::from_secs(1));
    assert_eq!(config.runtime.device, Device::Cpu);
    assert_eq!(config.runtime.memory, Some(256 << 20));
    assert_eq!(config.runtime.weight.get(), 3);
    assert_eq!(config.runtime.max_batch, NonZeroUsize::new(8));
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(parse("").unwrap(), ModelConfig::default());
    assert_eq!(parse("serve = \"1\"").unwrap().serve.unwrap().len(), 1);
}

#[test]
fn every_complaint_has_its_place() {
    let check = |text: &str, expected: &[&str]| {
        let found = parse(text).unwrap_err();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(&format!("m/model.toml:{expected}")), "{found} {expected}");
        }
    };
    check("[decision]\napprove_at = 0.5\n", &["1:2: decision: is sealed in package.toml"]);
    check("labels = []\ntask = 1\n", &["1:1: labels: is sealed", "2:1: task: is sealed"]);
    check("sreve = \"1\"", &["1:1: sreve: unknown key, expected one of serve, required"]);
    check("serve = 1", &["1:9: serve: a version is a string"]);
    check("serve = []", &["1:1: serve: names no version"]);
    check("serve = [\"1\", \"1\"]", &["1:1: serve: \"1\" stands twice"]);
    check("serve = \"01\"", &["1:1: serve: version \"01\" is not of the form"]);
    check("[budget]\ntarget = \"4s\"", &["2:1: [budget].target: target 4s is above limit 3s"]);
    check("[budget]\nlimit = \"1ms\"", &["2:1: [budget].limit: target 600ms is above limit 1ms"]);
    check("[budget]\nlimit = \"0s\"", &["2:1: [budget].limit: must be longer than 0"]);
    check("[budget]\nlimit = \"soon\"", &["2:1: [budget].limit: \"soon\" is no duration"]);
    check("[budget]\nburst = \"-1s\"", &["2:1: [budget].burst: \"-1s\" is no duration"]);
    check("[budget]\nlimit = 3", &["2:9: [budget].limit: invalid type: integer"]);
    check("[runtime]\ndevice = \"cuda\"", &["2:1: [runtime].device: \"cuda\" is not available"]);
    check("[runtime]\ndevice = \"tpu\"", &["2:1: [runtime].device: \"tpu\" is not one of"]);
    check("[runtime]\nlanes = 0", &["2:9: [runtime].lanes: invalid value: integer `0`"]);
    for memory in ["256MB", "1", "-1MiB", "99999999999GiB", ""] {
        let text = format!("[runtime]\nmemory = \"{memory}\"");
        check(&text, &[&format!("2:1: [runtime].memory: \"{memory}\" is no size")]);
    }
    check(
        "required = 3\n[budget]\nlimit = 3\nfoo = 1\n[runtime]\nlanes = 0\nweight = -1\n",
        &[
            "1:12: required: invalid type",
            "3:9: [budget].limit: invalid type",
            "4:1: [budget].foo: unknown field `foo`",
            "6:9: [runtime].lanes: invalid value",
            "7:10: [runtime].weight: invalid value",
        ],
    );
    check("required = true\nserve = ]\n", &["2:9: "]);
}

#[test]
fn a_hostile_file_is_given_up_soon() {
    let keys: String = (0..60_000).map(|it| format!("k{it} = 0\n")).collect();
    assert_eq!(parse(&keys).unwrap_err().len(), 50);
    let keys: String = (0..60_000).map(|it| format!("k{it} = 0\n")).collect();
    assert_eq!(parse(&format!("[runtime]\n{keys}")).unwrap_err().len(), 50);
}

#[test]
fn a_burst_is_as_long_as_the_target_unless_it_is_given() {
    let terms = |text: &str| ModelConfig::parse("m/model.toml", text.as_bytes()).unwrap().terms();
    let ms = Duration::from_millis;
    assert_eq!(terms("[budget]\ntarget = \"200ms\""), Terms { target: ms(200), burst: ms(200) });
    assert_eq!(terms("[budget]\nburst = \"0s\""), Terms { target: ms(600), burst: ms(0) });
    assert_eq!(terms("[budget]\nburst = \"2s\""), Terms { target: ms(600), burst: ms(2000) });
}
