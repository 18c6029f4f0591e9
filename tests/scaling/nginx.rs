//! A real nginx in front of replicas, told of them as a cluster tells its proxies.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::support::{
    client::get,
    programs::{runs, unpacked},
    server::until,
};

/// What the proxy does where a replica gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Tells the client.
    Never,
    /// Asks another replica, once: a verdict may be asked for twice.
    Another,
}

/// A running nginx; killed when dropped.
pub struct Nginx {
    pub address: SocketAddr,
    folder: TempDir,
    retry: Retry,
    /// Of the configuration, so that one sees which is in force.
    generation: u32,
    child: Child,
}

impl Nginx {
    pub fn start(replicas: &[SocketAddr], retry: Retry) -> Self {
        // It cannot say which port the system has picked; so one is picked for it.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &configuration(address, replicas, retry, 0));
        let mut command = Command::new(program());
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let mut nginx = Self { address, folder, retry, generation: 0, child };
        nginx.wait();
        nginx
    }

    /// From now on these are asked. Requests under way are finished with those they are at.
    pub fn route(&mut self, replicas: &[SocketAddr]) {
        self.generation += 1;
        let text = configuration(self.address, replicas, self.retry, self.generation);
        write(self.folder.path(), &text);
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        self.wait();
    }

    /// Until the configuration is in force.
    fn wait(&mut self) {
        let generation = self.generation.to_string();
        until("nginx to take its configuration", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "{}", self.log());
            let answer = get("/generation").try_send(self.address).ok()?;
            (answer.header("x-generation") == Some(&generation)).then_some(())
        });
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked, not killed: its workers would be left behind.
        let pid = self.child.id().to_string();
        let _may_have_ended = Command::new("kill").args(["-TERM", &pid]).status();
        let _reaped = self.child.wait();
    }
}

fn program() -> PathBuf {
    let program = unpacked("nginx", "usr/sbin/nginx").unwrap_or_else(|| "nginx".into());
    assert!(runs(&program, &["-v"]), "there is no nginx: run `scripts/setup --for-tests`");
    program
}

fn write(folder: &Path, text: &str) {
    fs::write(folder.join("nginx.conf"), text).unwrap();
}

fn configuration(
    address: SocketAddr,
    replicas: &[SocketAddr],
    retry: Retry,
    generation: u32,
) -> String {
    let replicas: String = replicas.iter().map(|it| format!("server {it};\n")).collect();
    let retry = match retry {
        Retry::Never => "off",
        Retry::Another => "error timeout non_idempotent",
    };
    // The temporary folder is root's own where root runs the tests.
    format!(
        "user root;\n\
         daemon off;\n\
         worker_processes 1;\n\
         pid nginx.pid;\n\
         error_log stderr notice;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         client_body_buffer_size 256k;\n\
         upstream replicas {{\n{replicas}keepalive 16;\n}}\n\
         server {{\n\
         listen {address};\n\
         location = /generation {{ add_header X-Generation {generation}; return 200 'ok'; }}\n\
         location / {{\n\
         proxy_pass http://replicas;\n\
         proxy_http_version 1.1;\n\
         proxy_set_header Connection '';\n\
         proxy_next_upstream {retry};\n\
         proxy_next_upstream_tries 2;\n\
         }}\n}}\n}}\n"
    )
}
