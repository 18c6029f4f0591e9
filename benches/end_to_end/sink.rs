//! A handler that reads bodies and drops them: what remains of serving when nothing is served. It
//! does less than any HTTP library, so that the fair floor is as high as it can be.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use crate::load::Head;

/// Answers every request with the same body. Its threads end with the process.
pub struct Sink(SocketAddr);

impl Sink {
    pub fn start(body: &[u8]) -> io::Result<Self> {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let answer: Arc<[u8]> = [head.as_bytes(), body].concat().into();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answer = Arc::clone(&answer);
                // A connection ends when its client leaves, in the middle of a read.
                std::thread::spawn(move || drain(stream, &answer).ok());
            }
        })?;
        Ok(Self(address))
    }

    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

fn drain(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let mut filled = 0;
        let head = loop {
            let n = stream.read(&mut buffer[filled..])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += n;
            if let Some(head) = Head::parse(&buffer[..filled]) {
                break head;
            }
        };
        let mut left = head.end.saturating_sub(filled);
        while left > 0 {
            let room = buffer.len().min(left);
            let n = stream.read(&mut buffer[..room])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= n;
        }
        stream.write_all(answer)?;
    }
}
