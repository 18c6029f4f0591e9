//! `deploy/`: every manifest is valid for Kubernetes and for whom it is meant, its parts refer to one another,
//! and a misspelt key is found.

mod served;
mod wiring;

use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use crate::support::{
    manifests::{MANIFESTS, check, deploy, kubectls, kustomizations, of_kind, render},
    models::Repository,
};

#[test]
fn every_manifest_is_rendered_and_valid() {
    // Looking at them holds them to the schemas.
    let kinds = |name: &str| -> Vec<&str> {
        MANIFESTS[name].iter().filter_map(|it| it["kind"].as_str()).collect()
    };
    let base = kinds("kubernetes/base");
    let all = ["ConfigMap", "Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy"];
    for kind in all {
        assert!(base.contains(&kind), "{kind}");
    }
    assert_eq!(base.len(), all.len(), "and nothing else: {base:?}");
    for (overlay, added) in [
        ("monitoring", Some("PodMonitor")),
        ("hpa", Some("HorizontalPodAutoscaler")),
        ("keda", Some("ScaledObject")),
        ("gpu", None),
        ("models-pvc", Some("PersistentVolumeClaim")),
        ("models-init", None),
    ] {
        let mut here = kinds(&format!("kubernetes/overlays/{overlay}"));
        here.retain(|it| !base.contains(it));
        assert_eq!(here, Vec::from_iter(added), "{overlay} is the base and this");
    }
    assert_eq!(kustomizations().len(), 7, "a new one is named above");
    let files = fs::read_dir(deploy().join("kserve")).unwrap();
    for file in files {
        let name = format!("kserve/{}", file.unwrap().file_name().to_str().unwrap());
        assert!(MANIFESTS.contains_key(&name), "{name} is not checked");
    }
}

/// The same for every version: the digest at the end of a ConfigMap's name is not, nor is where in the list
/// of volumes a patched one stands, which means nothing.
fn canonical(document: &Value, documents: &[Value]) -> String {
    let mut document = document.clone();
    let volumes = document.pointer_mut("/spec/template/spec/volumes").and_then(Value::as_array_mut);
    if let Some(volumes) = volumes {
        volumes.sort_by_key(|it| it["name"].to_string());
    }
    let name = of_kind(documents, "ConfigMap")["metadata"]["name"].as_str().unwrap();
    document.to_string().replace(name, "linesight-digest")
}

/// Debian's kubectl has what was kustomize's second version; of the fifth are those of today. Where there is
/// one beside Debian's, both must mean the same.
#[test]
fn every_kubectl_there_is_renders_the_same() {
    let folder = Repository::empty();
    for name in kustomizations() {
        let mut first: Option<Vec<String>> = None;
        for kubectl in kubectls() {
            folder.file("rendered.yaml", render(&kubectl, &name));
            let (documents, complaints) = check(&[folder.path().join("rendered.yaml")]);
            assert!(complaints.is_empty(), "{complaints:#?}");
            let documents = &documents[0];
            let mut texts: Vec<String> =
                documents.iter().map(|it| canonical(it, documents)).collect();
            texts.sort();
            let first = first.get_or_insert_with(|| texts.clone());
            assert_eq!(*first, texts, "{name} by {}", kubectl.display());
        }
    }
}

/// The kustomization that docs/operations.md shows, with the settings of one's own, and another overlay's files.
#[test]
fn a_kustomization_of_ones_own_does_what_the_manual_says() {
    let manual = fs::read_to_string("docs/operations.md").unwrap();
    let section = manual.split("## Kubernetes").nth(1).unwrap();
    let blocks = section.split("```yaml\n").skip(1).map(|it| it.split("```").next().unwrap());
    let mut own: String = blocks.take(2).collect();
    assert!(own.contains("bases: [linesight/") && own.contains("behavior: replace"), "{own}");
    own += "resources: [horizontalpodautoscaler.yaml]\npatchesStrategicMerge: [replicas.yaml]\n";
    let folder = Repository::empty();
    folder.file("kustomization.yaml", own).file("linesight.toml", "# mine\n");
    for copied in ["horizontalpodautoscaler.yaml", "replicas.yaml"] {
        let from = deploy().join("kubernetes/overlays/hpa").join(copied);
        folder.file(copied, fs::read(from).unwrap());
    }
    symlink(env!("CARGO_MANIFEST_DIR"), folder.path().join("linesight")).unwrap();
    for kubectl in kubectls() {
        folder.file("out.yaml", render(&kubectl, folder.path().to_str().unwrap()));
        let (documents, complaints) = check(&[folder.path().join("out.yaml")]);
        assert!(complaints.is_empty(), "{complaints:#?}");
        let documents = &documents[0];
        for document in documents {
            assert_eq!(document["metadata"]["namespace"], "linesight", "{document}");
        }
        let deployment = &of_kind(documents, "Deployment")["spec"];
        let container = &deployment["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "registry.example/linesight:0.1.0");
        assert!(deployment["replicas"].is_null(), "the autoscaler's to say");
        let map = of_kind(documents, "ConfigMap");
        assert_eq!(map["data"]["linesight.toml"], "# mine\n");
        let volumes = deployment["template"]["spec"]["volumes"].to_string();
        assert!(volumes.contains(map["metadata"]["name"].as_str().unwrap()), "{volumes}");
        of_kind(documents, "HorizontalPodAutoscaler");
    }
}

/// Renames the key at the end of a path.
fn misspell(document: &mut Value, path: &str, wrong: &str) {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    let value = parent.remove(key).unwrap();
    parent.insert(wrong.to_owned(), value);
}

#[test]
fn a_misspelt_key_is_found_wherever_it_is() {
    let folder = Repository::empty();
    let pod = "/spec/template/spec";
    for (file, kind, path, wrong) in [
        ("kubernetes/base", "Deployment", &*format!("{pod}/terminationGracePeriodSeconds"), "x"),
        ("kubernetes/base", "Deployment", &format!("{pod}/containers/0/readinessProbe"), "x"),
        ("kubernetes/base", "Service", "/spec/ports/0/targetPort", "targetport"),
        ("kubernetes/base", "PodDisruptionBudget", "/spec/maxUnavailable", "maxUnavailabel"),
        ("kubernetes/base", "NetworkPolicy", "/spec/policyTypes", "policyType"),
        ("kubernetes/overlays/hpa", "HorizontalPodAutoscaler", "/spec/behavior", "behaviour"),
        ("kubernetes/overlays/monitoring", "PodMonitor", "/spec/podMetricsEndpoints", "endpoints"),
        ("kubernetes/overlays/keda", "ScaledObject", "/spec/minReplicaCount", "minReplicas"),
        (
            "kubernetes/overlays/keda",
            "ScaledObject",
            "/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleUp",
            "scaleup",
        ),
        ("kserve/servingruntime.yaml", "ServingRuntime", "/spec/supportedModelFormats", "formats"),
        (
            "kserve/clusterservingruntime.yaml",
            "ClusterServingRuntime",
            "/spec/containers/0/readinessProbe",
            "readinessProb",
        ),
        (
            "kserve/inferenceservice.yaml",
            "InferenceService",
            "/spec/predictor/model/storageUri",
            "storageUrl",
        ),
        ("compose.yaml", "", "/services/linesight/read_only", "readonly"),
        ("kubernetes/overlays/hpa/prometheus-adapter.yaml", "", "/rules/0/metricsQuery", "query"),
    ] {
        let of_file = &MANIFESTS[file];
        let mut document =
            if kind.is_empty() { of_file[0].clone() } else { of_kind(of_file, kind).clone() };
        misspell(&mut document, path, wrong);
        // JSON is YAML.
        folder.file("misspelt.yaml", document.to_string());
        let (_, complaints) = check(&[folder.path().join("misspelt.yaml")]);
        let named = complaints.iter().any(|it| it.contains(&format!("'{wrong}'")));
        assert!(named, "{file}: {path} as {wrong}: {complaints:#?}");
    }
}

#[test]
fn what_no_cluster_knows_is_found() {
    let folder = Repository::empty();
    let gone = json!({
        "apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "x"}, "spec": {"maxUnavailable": 1},
    });
    folder.file("gone.yaml", gone.to_string());
    let (_, complaints) = check(&[folder.path().join("gone.yaml")]);
    assert_eq!(complaints.len(), 2, "in the oldest and in the newest: {complaints:#?}");
}
