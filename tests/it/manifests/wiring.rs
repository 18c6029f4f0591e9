//! What schemas do not know: that names lead somewhere, that pods may run where least is allowed, and that
//! the arithmetic of scaling is what the comments say.

use serde_json::{Value, json};

use crate::support::{
    manifests::{Documents, MANIFESTS, deploy, list, of_kind, pods, text},
    models::Repository,
    programs::prometheus,
};

/// The kustomizations, each with what it renders.
fn rendered() -> impl Iterator<Item = (&'static str, &'static Documents)> {
    let all = MANIFESTS.iter().filter(|(name, _)| !name.ends_with(".yaml"));
    all.map(|(name, documents)| (name.as_str(), documents))
}

/// Containers with their pod's security context and volumes, of everything that makes pods.
fn containers() -> Vec<(String, Value, Value)> {
    let mut all = Vec::new();
    for (name, pod, _) in pods() {
        for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
            all.push((name.to_owned(), pod.clone(), container.clone()));
        }
    }
    assert_eq!(all.len(), 7 + 1 + 2, "seven kustomizations, one with an init container; KServe");
    all
}

/// The Pod Security Standard `restricted`, as its page lists it, and a root that cannot be written.
#[test]
fn pods_may_run_where_the_standard_is_restricted() {
    for (name, pod, container) in containers() {
        let of = |key: &str| {
            let own = &container["securityContext"][key];
            if own.is_null() { pod["securityContext"][key].clone() } else { own.clone() }
        };
        assert_eq!(of("runAsNonRoot"), true, "{name}");
        assert_eq!(of("runAsUser"), 65532, "{name}");
        assert_eq!(of("allowPrivilegeEscalation"), false, "{name}");
        assert_eq!(of("readOnlyRootFilesystem"), true, "{name}");
        assert_eq!(of("capabilities"), json!({"drop": ["ALL"]}), "{name}");
        assert_eq!(of("seccompProfile"), json!({"type": "RuntimeDefault"}), "{name}");
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[key].is_null(), "{name}: {key}");
        }
        for volume in list(&pod["volumes"]) {
            let kinds: Vec<&str> = volume.as_object().unwrap().keys().map(String::as_str).collect();
            let one = kinds.iter().find(|it| **it != "name").unwrap();
            assert!(
                ["configMap", "emptyDir", "persistentVolumeClaim"].contains(one),
                "{name}: {one}"
            );
            assert_eq!(kinds.len(), 2, "{name}: one kind of volume, {kinds:?}");
        }
        for port in list(&container["ports"]) {
            assert!(port["hostPort"].is_null(), "{name}");
        }
    }
}

#[test]
fn pods_ask_for_whole_cores_and_for_what_they_may_use() {
    for (name, _, container) in containers() {
        let resources = &container["resources"];
        assert_eq!(resources["requests"], resources["limits"], "{name}");
        let cores = text(&resources["limits"]["cpu"]).parse::<u32>();
        assert!(cores.is_ok_and(|it| 0 < it), "{name}: {resources}");
        assert!(resources["limits"]["memory"].is_string(), "{name}");
        assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError", "{name}");
    }
    let gpu = of_kind(&MANIFESTS["kubernetes/overlays/gpu"], "Deployment");
    let container = &gpu["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], 1);
    assert_eq!(container["image"], "linesight:0.1.0-gpu");
}

/// Whether every label that is asked for is there.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn selectors_ports_and_volumes_lead_somewhere() {
    for (name, documents) in rendered() {
        let deployment = of_kind(documents, "Deployment");
        let template = &deployment["spec"]["template"];
        let (pod, labels) = (&template["spec"], &template["metadata"]["labels"]);
        let ports: Vec<&Value> =
            list(&pod["containers"][0]["ports"]).iter().map(|it| &it["name"]).collect();
        let mut selectors = vec![&deployment["spec"]["selector"]["matchLabels"]];
        let service = of_kind(documents, "Service");
        selectors.push(&service["spec"]["selector"]);
        selectors
            .push(&of_kind(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]);
        let policy = &of_kind(documents, "NetworkPolicy")["spec"];
        selectors.push(&policy["podSelector"]["matchLabels"]);
        for spread in list(&pod["topologySpreadConstraints"]) {
            selectors.push(&spread["labelSelector"]["matchLabels"]);
        }
        let mut named: Vec<&Value> =
            list(&service["spec"]["ports"]).iter().map(|it| &it["targetPort"]).collect();
        assert_eq!(named, ["data"], "{name}: clients reach no other port");
        for rule in list(&policy["ingress"]) {
            assert!(!list(&rule["from"]).is_empty(), "{name}: not from everywhere");
            named.extend(list(&rule["ports"]).iter().map(|it| &it["port"]));
        }
        assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
        assert!(list(&policy["egress"]).is_empty(), "{name}: no egress");
        for document in documents.iter().filter(|it| it["kind"] == "PodMonitor") {
            selectors.push(&document["spec"]["selector"]["matchLabels"]);
            named.extend(
                list(&document["spec"]["podMetricsEndpoints"]).iter().map(|it| &it["port"]),
            );
        }
        for selector in selectors {
            assert!(selects(selector, labels), "{name}: {selector} of {labels}");
        }
        for port in named {
            assert!(ports.contains(&port), "{name}: port {port} of {ports:?}");
        }
        let volumes: Vec<&Value> = list(&pod["volumes"]).iter().map(|it| &it["name"]).collect();
        for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
            for mount in list(&container["volumeMounts"]) {
                assert!(volumes.contains(&&mount["name"]), "{name}: {mount}");
            }
        }
        // Who scales says how many there are, and nobody else.
        let target =
            documents.iter().map(|it| &it["spec"]["scaleTargetRef"]).find(|it| !it.is_null());
        assert_eq!(target.is_some(), deployment["spec"]["replicas"].is_null(), "{name}");
        assert!(target.is_none_or(|it| it["name"] == deployment["metadata"]["name"]), "{name}");
    }
    let pvc = &MANIFESTS["kubernetes/overlays/models-pvc"];
    let volumes = &of_kind(pvc, "Deployment")["spec"]["template"]["spec"]["volumes"];
    let models = list(volumes).iter().find(|it| it["name"] == "models").unwrap();
    let claim = &of_kind(pvc, "PersistentVolumeClaim")["metadata"]["name"];
    assert_eq!(&models["persistentVolumeClaim"]["claimName"], claim);
}

#[test]
fn both_runtimes_of_kserve_are_the_same_and_the_example_uses_them() {
    let namespaced = of_kind(&MANIFESTS["kserve/servingruntime.yaml"], "ServingRuntime");
    let cluster = of_kind(&MANIFESTS["kserve/clusterservingruntime.yaml"], "ClusterServingRuntime");
    assert_eq!(namespaced["spec"], cluster["spec"]);
    assert_eq!(namespaced["metadata"], cluster["metadata"]);
    let container = &cluster["spec"]["containers"][0];
    assert_eq!(list(&container["ports"]).len(), 1, "Knative takes one");
    let service = of_kind(&MANIFESTS["kserve/inferenceservice.yaml"], "InferenceService");
    let model = &service["spec"]["predictor"]["model"];
    assert_eq!(model["runtime"], cluster["metadata"]["name"]);
    let format = &cluster["spec"]["supportedModelFormats"][0];
    assert_eq!(model["modelFormat"]["name"], format["name"]);
    assert_eq!(model["modelFormat"]["version"], format["version"]);
}

/// Runs a query on made-up series, by promtool; what it gives is added up.
#[track_caller]
fn holds(query: &str, series: &[(&str, f64)], expected: f64) {
    let folder = Repository::empty();
    let rules = json!({"groups": [{"name": "g", "rules": [{"record": "answer", "expr": query}]}]});
    let input: Vec<Value> = series
        .iter()
        .map(|(labels, value)| {
            let series = format!("linesight_load_ratio{{{labels}}}");
            json!({"series": series, "values": format!("{value}x2")})
        })
        .collect();
    let test = json!({
        "rule_files": ["rules.yaml"],
        "tests": [{
            "interval": "1m",
            "input_series": input,
            "promql_expr_test": [{"expr": "sum(answer)", "eval_time": "1m",
                "exp_samples": [{"labels": "{}", "value": expected}]}],
        }],
    });
    folder.file("rules.yaml", rules.to_string()).file("test.yaml", test.to_string());
    let done = prometheus("promtool")
        .args(["test", "rules"])
        .arg(folder.path().join("test.yaml"))
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{query}: {said}");
}

#[test]
fn replicas_are_the_work_of_all_pods_by_what_one_shall_have() {
    let hpa = of_kind(&MANIFESTS["kubernetes/overlays/hpa"], "HorizontalPodAutoscaler");
    let object = of_kind(&MANIFESTS["kubernetes/overlays/keda"], "ScaledObject");
    let spec = &hpa["spec"];
    let target = &spec["metrics"][0]["pods"]["target"];
    assert_eq!(
        (&target["type"], &target["averageValue"]),
        (&json!("AverageValue"), &json!("700m"))
    );
    let trigger = &object["spec"]["triggers"][0];
    assert_eq!(trigger["metricType"], "AverageValue");
    let (query, threshold) =
        (text(&trigger["metadata"]["query"]), &trigger["metadata"]["threshold"]);
    assert_eq!(threshold, "0.7", "as the HorizontalPodAutoscaler's");
    let config = &object["spec"]["advanced"]["horizontalPodAutoscalerConfig"];
    assert_eq!(config["behavior"], spec["behavior"]);
    assert_eq!(object["spec"]["minReplicaCount"], spec["minReplicas"]);
    assert_eq!(object["spec"]["maxReplicaCount"], spec["maxReplicas"]);

    let replicas = format!("ceil(({query}) / {})", text(threshold));
    // Two jobs that scrape one pod do not make two of it; other namespaces do not count.
    let pods = |loads: [f64; 2]| {
        [
            ("namespace=\"linesight\",pod=\"a\",job=\"x\"", loads[0]),
            ("namespace=\"linesight\",pod=\"a\",job=\"y\"", loads[0]),
            ("namespace=\"linesight\",pod=\"b\",job=\"x\"", loads[1]),
            ("namespace=\"other\",pod=\"c\",job=\"x\"", 50.0),
        ]
    };
    for (loads, expected) in
        [([0.1, 0.1], 1.0), ([0.5, 0.8], 2.0), ([0.8, 1.2], 3.0), ([10.0, 10.0], 29.0)]
    {
        holds(&replicas, &pods(loads), expected);
    }
}

#[test]
fn the_adapter_has_one_value_for_each_pod() {
    let rule = &MANIFESTS["kubernetes/overlays/hpa/prometheus-adapter.yaml"][0]["rules"][0];
    let hpa = of_kind(&MANIFESTS["kubernetes/overlays/hpa"], "HorizontalPodAutoscaler");
    assert_eq!(rule["name"]["as"], hpa["spec"]["metrics"][0]["pods"]["metric"]["name"]);
    let query = text(&rule["metricsQuery"])
        .replace("<<.Series>>", text(&rule["name"]["matches"]))
        .replace("<<.LabelMatchers>>", "namespace=\"linesight\",pod=~\"a|b\"")
        .replace("<<.GroupBy>>", "pod");
    assert!(!query.contains("<<"), "{query}");
    let series = [
        ("namespace=\"linesight\",pod=\"a\",job=\"x\"", 0.5),
        ("namespace=\"linesight\",pod=\"a\",job=\"y\"", 0.5),
        ("namespace=\"linesight\",pod=\"b\",job=\"x\"", 2.0),
    ];
    holds(&query, &series, 2.5);
    holds(text(&rule["seriesQuery"]), &series[1..], 2.5);
}

#[test]
fn the_prometheus_of_compose_reads_its_configuration_and_scrapes_the_admin_listener() {
    let config = deploy().join("prometheus/prometheus.yml");
    let done = prometheus("promtool").args(["check", "config"]).arg(&config).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let config = std::fs::read_to_string(config).unwrap();
    let services = &MANIFESTS["compose.yaml"][0]["services"];
    let admin = text(&services["linesight"]["environment"]["LINESIGHT_SERVER__ADMIN"]);
    let (_, port) = admin.rsplit_once(':').unwrap();
    assert!(config.contains(&format!("- linesight:{port}\n")), "{config}");
    assert!(config.contains("metrics_path: /metrics\n"));
    let mounted = "./prometheus/prometheus.yml:/etc/prometheus/prometheus.yml:ro";
    assert_eq!(services["prometheus"]["volumes"][0], mounted);
}
