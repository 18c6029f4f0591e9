//! The real binary: started on ports the system picks, spoken to over sockets, ended by signals.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use linesight::types::Instant;
use serde_json::Value;

use super::client::{Answer, Request, get};

/// How long anything may take before a test gives up. Generous: machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer. The one place where a test waits for a state that
/// nothing announces.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The program, without a setting of the machine the tests run on.
pub fn linesight() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linesight"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("LINESIGHT_") || text == "ORT_DYLIB_PATH" {
            command.env_remove(name);
        }
    }
    // What one test has measured must not spare another the measuring, nor the user of this machine.
    command.env("LINESIGHT_MODELS__CACHE", "off");
    // Where it looks for ONNX Runtime, and for linesight.toml.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// What a server says while it runs; complete once it has ended.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

/// A server to be started.
#[derive(Debug)]
pub struct Settings {
    models: OsString,
    cores: &'static str,
    variables: Vec<(&'static str, String)>,
}

impl Settings {
    pub fn new(models: &Path) -> Self {
        // Tests that run side by side shall not multiply their lanes; those that need more say so.
        let variables = vec![("LINESIGHT_SERVER__DRAIN_DELAY", "0s".to_owned())];
        Self { models: models.into(), cores: "1", variables }
    }

    pub fn cores(mut self, cores: &'static str) -> Self {
        self.cores = cores;
        self
    }

    /// A setting by its variable.
    pub fn set(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }

    /// Starts it; returns as soon as it listens, loaded or not.
    pub fn start(self) -> Server {
        let mut command = linesight();
        command
            .args(["serve", "--data", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--cores", self.cores, "--models"])
            .arg(self.models)
            .env("LINESIGHT_LOG__FORMAT", "json")
            .envs(self.variables);
        Server::start(command)
    }

    /// Starts it, and waits until it is ready.
    pub fn ready(self) -> Server {
        self.start().until_ready()
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    pub data: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Runs `linesight serve …` with its log as JSON; returns as soon as it listens, loaded or not.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let (said, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                said.lines.lock().unwrap().push(line.unwrap());
                said.more.notify_all();
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { data: nowhere, admin: nowhere, child, log, reader: Some(reader) };
        let listening = server.logged("listening");
        server.data = listening["data"].as_str().unwrap().parse().unwrap();
        server.admin = listening["admin"].as_str().unwrap().parse().unwrap();
        server
    }

    /// Waits until it is ready.
    #[must_use]
    pub fn until_ready(self) -> Self {
        until(&format!("readiness; log: {:#?}", self.log_so_far()), || {
            let ready = get("/readyz").send(self.admin);
            let never = ready.text().contains("failed:") && !ready.text().contains("is loading");
            assert!(ready.status == 200 || !never, "{} {:#?}", ready.text(), self.log_so_far());
            Some(ready).filter(|it| it.status == 200)
        });
        self
    }

    /// Serves a repository, and waits until it is ready.
    pub fn ready(models: &Path) -> Self {
        Settings::new(models).ready()
    }

    /// Sends a request to the data listener.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        request.send(self.data)
    }

    /// The JSON of a page of the data listener.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        get(path).send(self.data).json()
    }

    /// Asks the admin listener until it answers with this status; says with what.
    #[track_caller]
    pub fn wait_for_status(&self, path: &str, status: u16) -> Answer {
        until(&format!("{path} to answer {status}; log: {:#?}", self.log_so_far()), || {
            Some(get(path).send(self.admin)).filter(|it| it.status == status)
        })
    }

    /// The count of a sample, its labels as the exposition writes them; 0 where there is none.
    #[track_caller]
    pub fn metric(&self, sample: &str) -> u64 {
        let text = get("/metrics").send(self.admin).text();
        let values = text.lines().filter_map(|it| it.strip_prefix(sample)?.strip_prefix(' '));
        values.map(|it| it.parse::<u64>().unwrap()).sum()
    }

    /// The first log line with this message, as soon as it is there.
    #[track_caller]
    pub fn logged(&self, message: &str) -> Value {
        self.logged_that(message, |_| true)
    }

    /// The first log line with this message of which `holds` is true, as soon as it is there.
    #[track_caller]
    pub fn logged_that(&self, message: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut lines = self.log.lines.lock().unwrap();
        let began = Instant::now();
        loop {
            let parsed = lines.iter().filter_map(|it| serde_json::from_str::<Value>(it).ok());
            let found = parsed.map(flat).find(|it| it["message"] == message && holds(it));
            if let Some(found) = found {
                return found;
            }
            let left = PATIENCE.saturating_sub(began.elapsed());
            assert!(!left.is_zero(), "no log line {message:?} in {lines:#?}");
            lines = self.log.more.wait_timeout(lines, left.min(Duration::from_secs(1))).unwrap().0;
        }
    }

    pub fn log_so_far(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }

    /// Sends the process a signal: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the process has ended; kills it where that takes too long.
    pub fn wait(self) -> ExitStatus {
        self.wait_and_log().0
    }

    /// The same, and everything it has said.
    pub fn wait_and_log(mut self) -> (ExitStatus, Vec<String>) {
        let status = until(&format!("the process to end; log: {:#?}", self.log_so_far()), || {
            self.child.try_wait().unwrap()
        });
        self.reader.take().map(JoinHandle::join).transpose().unwrap();
        (status, self.log_so_far())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _has_ended_already = self.child.kill();
        let _was_waited_for_already = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let result = reader.join();
            assert!(result.is_ok() || std::thread::panicking());
        }
    }
}

/// The fields of a log line, wherever its format puts them, beside its level and target.
fn flat(mut line: Value) -> Value {
    if let Some(Value::Object(fields)) = line.as_object_mut().and_then(|it| it.remove("fields")) {
        line.as_object_mut().unwrap().extend(fields);
    }
    line
}

/// What a command has done.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// Runs a command of the program to its end; kills it where that takes too long.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::park_timeout(Duration::from_millis(2));
    };
    let took = began.elapsed();
    let (stdout, stderr) = (out.join().unwrap(), err.join().unwrap());
    Ran { code: status.code(), stdout, stderr, took }
}
