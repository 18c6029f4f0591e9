//! Manifests as kubectl renders them and `tests/manifests/check.py` reads them, and what they ask of the
//! program, so that a test can start it as they would.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

use serde_json::Value;

use super::{
    models::Repository,
    programs::{runs, unpacked},
    python::python,
    server::{Server, linesight},
};

/// The documents of a file.
pub type Documents = Vec<Value>;

/// Everything in `deploy/` that is a manifest, by where it lies: `kubernetes/base`, `kserve/….yaml`.
pub static MANIFESTS: LazyLock<BTreeMap<String, Documents>> = LazyLock::new(|| {
    let folder = Repository::empty();
    let kubectl = kubectls().remove(0);
    let mut files = Vec::new();
    for name in kustomizations() {
        let file = format!("{}.yaml", name.replace('/', "-"));
        folder.file(&file, render(&kubectl, &name));
        files.push((name, folder.path().join(file)));
    }
    for name in [
        "kserve/clusterservingruntime.yaml",
        "kserve/servingruntime.yaml",
        "kserve/inferenceservice.yaml",
        "compose.yaml",
        "kubernetes/overlays/hpa/prometheus-adapter.yaml",
    ] {
        files.push((name.to_owned(), deploy().join(name)));
    }
    let (names, paths): (Vec<_>, Vec<_>) = files.into_iter().unzip();
    let (documents, complaints) = check(&paths);
    assert!(complaints.is_empty(), "{complaints:#?}");
    names.into_iter().zip(documents).collect()
});

pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// Every kubectl there is, Debian's first: it is the oldest, and what it renders every newer one does.
pub fn kubectls() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        unpacked("kubernetes-client", "usr/bin/kubectl").into_iter().collect();
    all.push("kubectl".into());
    all.retain(|it| runs(it, &["version", "--client"]));
    assert!(!all.is_empty(), "no kubectl: run `scripts/setup --for-tests`, as make test does");
    all
}

/// The folders of `deploy/` with a kustomization.
pub fn kustomizations() -> Vec<String> {
    let overlays = fs::read_dir(deploy().join("kubernetes/overlays")).unwrap();
    let name = |it: fs::DirEntry| it.file_name().into_string().unwrap();
    let mut all: Vec<String> =
        overlays.map(|it| format!("kubernetes/overlays/{}", name(it.unwrap()))).collect();
    all.push("kubernetes/base".to_owned());
    all.sort();
    all
}

/// What would be applied, as YAML.
pub fn render(kubectl: &Path, name: &str) -> String {
    let done = Command::new(kubectl).arg("kustomize").arg(deploy().join(name)).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{} kustomize {name}: {said}", kubectl.display());
    String::from_utf8(done.stdout).unwrap()
}

/// The documents of each file, and what is wrong with any of them.
pub fn check(paths: &[PathBuf]) -> (Vec<Documents>, Vec<String>) {
    let done = python().arg("tests/manifests/check.py").args(paths).output().unwrap();
    assert!(done.status.success(), "check.py: {}", String::from_utf8_lossy(&done.stderr));
    let mut report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["versions"][0], "1.28", "{}", report["versions"]);
    let mut complaints = Vec::new();
    let documents = paths.iter().map(|path| {
        let mut file = report["files"][path.to_str().unwrap()].take();
        let named = |it: &Value| format!("{}: {}", path.display(), it.as_str().unwrap());
        complaints.extend(list(&file["complaints"]).iter().map(named));
        serde_json::from_value(file["documents"].take()).unwrap()
    });
    (documents.collect(), complaints)
}

/// The one document of this kind.
#[track_caller]
pub fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut found = documents.iter().filter(|it| it["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "there is more than one {kind}");
    one
}

/// Everything that makes pods: where it lies, the pod, and the documents it came with.
pub fn pods() -> impl Iterator<Item = (&'static str, &'static Value, &'static [Value])> {
    let pod = |it: &'static Value| match it["kind"].as_str() {
        Some("Deployment") => Some(&it["spec"]["template"]["spec"]),
        Some("ServingRuntime" | "ClusterServingRuntime") => Some(&it["spec"]),
        Some(_) | None => None,
    };
    MANIFESTS.iter().flat_map(move |(name, documents)| {
        documents.iter().filter_map(pod).map(move |it| (name.as_str(), it, documents.as_slice()))
    })
}

/// The elements of a list; none where there is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// How a manifest starts the program.
#[derive(Debug, Default)]
pub struct Contract {
    pub name: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Ports by their name, those without one by their number.
    pub ports: BTreeMap<String, u16>,
    /// Which probe, its path, and the number of its port.
    pub probes: Vec<(&'static str, String, u16)>,
    /// From the signal to the kill.
    pub grace: Duration,
    /// Where in the container which folder of this machine is.
    pub mounts: Vec<(String, PathBuf)>,
    /// Folders that the mounts are in.
    folders: Vec<Repository>,
}

impl Contract {
    /// That of the first container of a pod. Its claims, and `/mnt/models` where it mounts none, are `models`.
    pub fn of_pod(name: &str, pod: &Value, documents: &[Value], models: &Path) -> Self {
        let container = &pod["containers"][0];
        let of = |it: &Value| text(it).to_owned();
        let mut contract = Self {
            name: name.to_owned(),
            args: list(&container["args"]).iter().map(of).collect(),
            env: list(&container["env"])
                .iter()
                .map(|it| (of(&it["name"]), of(&it["value"])))
                .collect(),
            // Kubernetes' own default.
            grace: Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30)),
            ..Self::default()
        };
        for port in list(&container["ports"]) {
            let number = u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap();
            contract.ports.insert(of(&port["name"]), number);
        }
        for kind in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let probe = &container[kind]["httpGet"];
            if probe.is_null() {
                continue;
            }
            let port = &probe["port"];
            let number = match port.as_u64() {
                Some(number) => u16::try_from(number).unwrap(),
                None => contract.ports[text(port)],
            };
            contract.probes.push((kind, of(&probe["path"]), number));
        }
        for mount in list(&container["volumeMounts"]) {
            let volume =
                list(&pod["volumes"]).iter().find(|it| it["name"] == mount["name"]).unwrap();
            contract.mount(text(&mount["mountPath"]), volume, documents, models);
        }
        if !contract.mounts.iter().any(|(path, _)| path == "/mnt/models") {
            contract.mounts.push(("/mnt/models".to_owned(), models.to_owned()));
        }
        contract
    }

    fn mount(&mut self, path: &str, volume: &Value, documents: &[Value], models: &Path) {
        let folder = Repository::empty();
        if volume["name"] == "models" {
            self.mounts.push((path.to_owned(), models.to_owned()));
            return;
        }
        if let Some(name) = volume["configMap"]["name"].as_str() {
            let map = of_kind(documents, "ConfigMap");
            assert_eq!(map["metadata"]["name"], name, "the ConfigMap that is mounted");
            for (file, content) in map["data"].as_object().unwrap() {
                folder.file(file, text(content));
            }
        } else {
            assert!(volume["emptyDir"].is_object(), "{volume}");
        }
        self.mounts.push((path.to_owned(), folder.path().to_owned()));
        self.folders.push(folder);
    }

    /// That of a service of a Compose file.
    pub fn of_service(service: &Value, models: &Path) -> Self {
        let of = |it: &Value| text(it).to_owned();
        let env = service["environment"].as_object().unwrap();
        let cache = Repository::empty();
        Self {
            name: "compose".to_owned(),
            args: list(&service["command"]).iter().map(of).collect(),
            env: env.iter().map(|(name, value)| (name.clone(), of(value))).collect(),
            grace: humantime::parse_duration(text(&service["stop_grace_period"])).unwrap(),
            mounts: vec![
                ("/mnt/models".to_owned(), models.to_owned()),
                ("/var/cache/linesight".to_owned(), cache.path().to_owned()),
            ],
            folders: vec![cache],
            ..Self::default()
        }
    }

    /// What a value of the container is here: folders mapped, ports taken from the system.
    pub fn here(&self, value: &str) -> String {
        if value.parse::<SocketAddr>().is_ok() {
            return "127.0.0.1:0".to_owned();
        }
        for (path, folder) in &self.mounts {
            if let Some(rest) = value.strip_prefix(path.as_str()) {
                return format!("{}{rest}", folder.display());
            }
        }
        assert!(!value.starts_with('/'), "{}: {value} is in no volume", self.name);
        value.to_owned()
    }

    /// The program with the arguments and the environment of the container, and these beside.
    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = linesight();
        command.args(self.args.iter().map(|it| self.here(it))).args(more);
        command.envs(self.env.iter().map(|(name, value)| (name, self.here(value))));
        command
    }

    pub fn start(&self) -> Server {
        Server::start(self.command(&[]))
    }

    /// Where the running server answers for a port of the container that others may reach.
    #[track_caller]
    pub fn address(&self, server: &Server, port: u16) -> SocketAddr {
        for (variable, address) in
            [("LINESIGHT_SERVER__DATA", server.data), ("LINESIGHT_SERVER__ADMIN", server.admin)]
        {
            let mut env = self.env.iter().filter(|(name, _)| name == variable);
            let asked: SocketAddr = env.next().unwrap().1.parse().unwrap();
            if asked.port() == port && asked.ip().is_unspecified() {
                return address;
            }
        }
        panic!("{}: nothing listens on port {port} for others", self.name);
    }
}
