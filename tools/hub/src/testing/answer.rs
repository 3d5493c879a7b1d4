//! HTTP/1.1, one request a connection, with faults.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::{Fault, Seen};

/// No request is longer.
const LONGEST_REQUEST: u64 = 1 << 16;

/// An answer before `Range` and faults have had their say.
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    content: Option<Vec<u8>>,
    fault: Option<Fault>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), content: None, fault: None }
    }

    pub fn content(content: Vec<u8>, fault: Option<Fault>) -> Self {
        Self { content: Some(content), fault, ..Self::status(200) }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn failing(mut self, fault: Option<Fault>) -> Self {
        self.fault = fault;
        self
    }

    /// Sends it. `stopping`: whether a silence is to end.
    pub fn write(mut self, stream: &mut TcpStream, seen: &Seen, stopping: impl Fn() -> bool) -> io::Result<()> {
        match &self.fault {
            Some(Fault::Status(status)) => self = Self::status(*status),
            Some(Fault::NoSuchRange) => self = Self::status(416),
            _ => {}
        }
        let fault = self.fault.take();
        let mut body = self.content.take().unwrap_or_default();
        let whole = body.len();
        let ranged = seen.headers.get("range").filter(|_| self.status == 200 && !matches!(fault, Some(Fault::NoRange)));
        if let Some(range) = ranged {
            match bounds(range, whole) {
                Some((start, end)) => {
                    let start = if matches!(fault, Some(Fault::OtherRange)) { start / 2 } else { start };
                    self.status = 206;
                    self.headers.push(("Content-Range".into(), format!("bytes {start}-{}/{whole}", end - 1)));
                    body = body[start..end].to_vec();
                }
                None => {
                    self.status = 416;
                    self.headers.push(("Content-Range".into(), format!("bytes */{whole}")));
                    body.clear();
                }
            }
        }
        match fault {
            Some(Fault::Damaged) => {
                let middle = body.len() / 2;
                body[middle..].iter_mut().take(1).for_each(|byte| *byte ^= 1);
            }
            Some(Fault::Longer | Fault::LongerUnsaid) => body.push(0),
            _ => {}
        }
        let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\nAccept-Ranges: bytes\r\n", self.status);
        if !matches!(fault, Some(Fault::LongerUnsaid)) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        if seen.method == "HEAD" {
            return Ok(());
        }
        match fault {
            Some(Fault::BreakAfter(count)) => stream.write_all(&body[..count.min(body.len())]),
            Some(Fault::SilentAfter(count)) => {
                stream.write_all(&body[..count.min(body.len())])?;
                while !stopping() {
                    thread::sleep(Duration::from_millis(10));
                }
                Ok(())
            }
            Some(Fault::Slow(pause)) => body.chunks(1000).try_for_each(|piece| {
                thread::sleep(pause);
                stream.write_all(piece)
            }),
            _ => stream.write_all(&body),
        }
    }
}

/// The first byte of `bytes=5-9`, and the one after its last. `None`: there are no such bytes.
fn bounds(range: &str, whole: usize) -> Option<(usize, usize)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = end.parse().map_or(whole, |last: usize| last.saturating_add(1).min(whole));
    (start < end).then_some((start, end))
}

/// A request's line and headers. None of the Hub's requests has a body.
pub(super) fn read_request(stream: &mut TcpStream) -> io::Result<Seen> {
    let mut lines = BufReader::new(stream.take(LONGEST_REQUEST)).lines();
    let missing = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let first = lines.next().ok_or_else(missing)??;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().ok_or_else(missing)?.to_owned());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    Ok(Seen { store: false, method, path, headers })
}
