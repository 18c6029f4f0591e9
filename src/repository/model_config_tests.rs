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
    check(
        "[runtime]\ndevice = \"tpu\"",
        &["2:1: [runtime].device: \"tpu\" is not one of \"cpu\", "],
    );
    check("[runtime]\ndevices = []", &["2:1: [runtime].devices: names no GPU; leave the key out"]);
    check("[runtime]\ndevices = [1, 0, 1]", &["2:1: [runtime].devices: 1 stands twice"]);
    check("[runtime]\ndevices = [-1]", &["2:12: [runtime].devices: invalid value: integer `-1`"]);
    check("[runtime]\ndevices = 0", &["2:11: [runtime].devices: invalid type: integer `0`"]);
    check(
        "[runtime]\ndevice = \"cpu\"\ndevices = [0]",
        &["3:1: [runtime].devices: numbers GPUs, and device = \"cpu\" uses none"],
    );
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
fn a_device_is_named_by_its_word_and_its_numbers() {
    let runtime = |text: &str| parse(&format!("[runtime]\n{text}")).unwrap().runtime;
    for device in [Device::Cpu, Device::Cuda, Device::TensorRt, Device::Auto] {
        let word = device.as_str();
        assert_eq!(runtime(&format!("device = \"{word}\"")).device, device);
    }
    assert_eq!(runtime("").device, Device::Auto);
    assert_eq!(runtime("device = \"cuda\"").devices, [0]);
    assert_eq!(runtime("device = \"cuda\"\ndevices = [2, 0]").devices, [2, 0]);
    assert_eq!(runtime("devices = [1]").devices, [1]);
}

#[test]
fn a_burst_is_as_long_as_the_target_unless_it_is_given() {
    let terms = |text: &str| ModelConfig::parse("m/model.toml", text.as_bytes()).unwrap().terms();
    let ms = Duration::from_millis;
    let default = Terms::new(ms(600), ms(3000));
    assert_eq!(terms("[budget]\ntarget = \"200ms\""), Terms::new(ms(200), ms(3000)));
    assert_eq!(terms("[budget]\nburst = \"0s\""), Terms { burst: ms(0), ..default });
    assert_eq!(terms("[budget]\nburst = \"2s\""), Terms { burst: ms(2000), ..default });
    let reserve = Some(ms(40));
    assert_eq!(terms("[budget]\nreserve = \"40ms\""), Terms { reserve, ..default });
    assert_eq!(terms("[runtime]\nweight = 3"), Terms { weight: 3, ..default });
}
