//! A small HTTP/1.1 client on a plain socket, so that a test can also say what no client would.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// No answer takes longer; a server that is silent for so long has failed the test.
const SILENCE: Duration = Duration::from_secs(60);

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

pub fn get(path: &str) -> Request {
    request("GET", path)
}

/// A POST that says nothing of the type of its body.
pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Request {
    Request { body: Some(body.into()), ..request("POST", path) }
}

pub fn request(method: &str, path: &str) -> Request {
    Request { method: method.into(), path: path.into(), headers: Vec::new(), body: None }
}

impl Request {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A form of files: name of the part, name of the file, content.
    pub fn form(path: &str, files: &[(&str, &str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (name, file, content) in files {
            let head = "--bound\r\nContent-Disposition: form-data; name=";
            body.extend(format!("{head}\"{name}\"; filename=\"{file}\"\r\n").bytes());
            body.extend_from_slice(b"Content-Type: image/png\r\n\r\n");
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--bound--\r\n");
        post(path, body).header("Content-Type", "multipart/form-data; boundary=bound")
    }

    /// A JSON body.
    pub fn json(path: &str, body: &Value) -> Self {
        post(path, body.to_string()).header("Content-Type", "application/json")
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: linesight\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = self.body.as_deref();
        if let Some(body) = body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        bytes
    }

    /// Sends it over a connection of its own.
    #[track_caller]
    pub fn send(&self, address: SocketAddr) -> Answer {
        self.try_send(address).unwrap_or_else(|error| {
            panic!("{} {}: {error}", self.method, self.path);
        })
    }

    /// The same where the server may have gone.
    pub fn try_send(&self, address: SocketAddr) -> io::Result<Answer> {
        Connection::open(address)?.exchange(&self.bytes())
    }
}

/// A connection that stays open.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Received, and not yet part of an answer.
    left: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self { stream, left: Vec::new() })
    }

    /// Writes bytes. A server that refuses may stop reading before all of them are there.
    pub fn write(&mut self, bytes: &[u8]) {
        let _the_answer_will_tell = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        let _is_closed_already = self.stream.shutdown(Shutdown::Write);
    }

    /// Writes a request, reads an answer.
    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<Answer> {
        self.write(bytes);
        self.answer()
    }

    /// The next answer; an interim one (1xx) counts as one.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let end_of_head = loop {
            if let Some(at) = find(&self.left, b"\r\n\r\n") {
                break at + 4;
            }
            self.receive()?;
        };
        let head = String::from_utf8(self.left.drain(..end_of_head).collect())
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let status = status.strip_prefix("HTTP/1.1 ").or(status.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|it| it.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, head.clone()))?;
        let headers: Vec<_> = lines
            .filter_map(|it| it.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map(|it| it.parse::<usize>().unwrap());
        if answer.header("transfer-encoding").is_some() {
            return Err(io::Error::new(ErrorKind::Unsupported, "chunked answers are not expected"));
        }
        let length = length.unwrap_or(0);
        while self.left.len() < length {
            self.receive()?;
        }
        answer.body = self.left.drain(..length).collect();
        Ok(answer)
    }

    /// Whether the server has closed the connection and said nothing more.
    pub fn is_closed(&mut self) -> bool {
        self.left.is_empty() && self.receive().is_err_and(|it| it.kind() != ErrorKind::WouldBlock)
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let n_bytes = loop {
            match self.stream.read(&mut buffer) {
                // A read with a timeout is not taken up again by itself after the process was
                // stopped and continued, as a machine under snapshots does: signal(7).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if n_bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left.extend_from_slice(&buffer[..n_bytes]);
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|it| it == what)
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The one value of a header.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|it| it.0 == name).map(|it| it.1.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} is there twice: {:?}", self.headers);
        first
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// `decision/reason` of an item, `null` where it has no verdict.
    #[track_caller]
    pub fn verdict(&self, position: usize) -> String {
        verdict_of(&self.json()["items"][position])
    }

    /// The score of a label in an item's list.
    #[track_caller]
    pub fn score(&self, position: usize, label: &str) -> f64 {
        let json = self.json();
        let scores = json["items"][position]["scores"].as_array().expect("scores");
        let found = scores.iter().find(|it| it["label"] == label);
        found.unwrap_or_else(|| panic!("no {label} in {json}"))["score"].as_f64().unwrap()
    }
}

/// `decision/reason` of an item or a view.
#[track_caller]
pub fn verdict_of(item: &Value) -> String {
    let verdict = &item["verdict"];
    match (verdict["decision"].as_str(), verdict["reason"].as_str()) {
        (Some(decision), Some(reason)) => format!("{decision}/{reason}"),
        _ if verdict.is_null() && item.get("verdict").is_some() => "null".to_owned(),
        _ => panic!("no verdict in {item}"),
    }
}
