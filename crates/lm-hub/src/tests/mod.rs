//! Downloads from a stand-in for the Hub on this machine.

mod downloads;
mod refusals;
mod remote;
mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use crate::hash::{git_name, lfs_name};
use crate::snapshot::Snapshot;
use crate::*;

const TOKENIZER: Files =
    Files::Tokenizer { vocabularies: &["tokenizer.json", "vocab.txt"], others: &["tokenizer_config.json"] };

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the stand-in for the Hub holds and does.
#[derive(Default)]
struct Script {
    files: BTreeMap<&'static str, Vec<u8>>,
    /// Files kept elsewhere: a request for them is redirected, as for Git LFS.
    redirected: Vec<&'static str>,
    /// They lie at this address; on the same server, if there is none.
    elsewhere: Option<String>,
    /// Parts of files are not sent.
    no_parts: bool,
    /// How often the body of a file breaks off in the middle.
    breaks: Mutex<HashMap<&'static str, usize>>,
    /// Files whose body stops in the middle, once, on a connection that stays open.
    stalls: Mutex<Vec<&'static str>>,
    /// The first requests for files, whichever they are, are answered with these statuses.
    busy: Mutex<Vec<&'static str>>,
    /// The bytes of files are sent when so many are asked for.
    together: Option<Barrier>,
    /// The headers that say when to ask again.
    later: &'static str,
    /// Files that are answered with a short page of this status.
    refused: HashMap<&'static str, &'static str>,
    /// Status and `X-Error-Code` of every answer about the model.
    error: Option<(&'static str, &'static str)>,
    /// Without this token, the model does not exist.
    token: Option<&'static str>,
    /// Which header of authorization came with each request, and which range.
    seen: Mutex<Vec<(String, String)>>,
    /// What is untrue of the answers.
    lie: Lie,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Lie {
    #[default]
    None,
    /// This ETag for every file.
    ETag(&'static str),
    /// This commit of every file.
    FileCommit(&'static str),
    /// This commit of the model.
    Commit(&'static str),
    /// Zeros instead of the bytes.
    Zeros,
    /// More bytes than listed.
    Longer,
    /// These entries in the list too.
    Entries(&'static str),
    /// Each page of the list leads to the next, which is the same.
    Pages,
    /// The list never ends.
    EndlessList,
    /// Files lie there.
    Location(&'static str),
    /// Instead of a file, a page of this status that never ends.
    EndlessPage(&'static str),
    /// Files can be had in parts by this hash of the Xet protocol.
    Xet(&'static str),
}

/// Speaks as much of the Hub's protocol as a download needs, on a port of this machine.
struct TestHub {
    script: Arc<Script>,
    log: Arc<Mutex<Vec<String>>>,
    cache: tempfile::TempDir,
    endpoint: String,
}

impl TestHub {
    fn new(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (script, log) = (Arc::new(script), Arc::new(Mutex::new(Vec::new())));
        let hub = Self { script, log, cache: tempfile::tempdir().unwrap(), endpoint };
        let (script, log, base) = (hub.script.clone(), hub.log.clone(), hub.endpoint.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log, base) = (script.clone(), log.clone(), base.clone());
                std::thread::spawn(move || answer(stream, &script, &log, &base));
            }
        });
        hub
    }

    fn with_files(files: &[(&'static str, &str)]) -> Self {
        Self::new(Script { files: contents(files), ..Script::default() })
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: self.endpoint.clone(),
            revision: "main".to_string(),
            token: None,
            cache: self.cache.path().to_path_buf(),
            offline: false,
            retry_delay: Duration::from_millis(1),
            upload_silence: Duration::from_secs(2),
        }
    }

    fn resolve(&self, files: Files) -> Result<PathBuf, HubError> {
        self.resolve_with(files, &self.settings())
    }

    fn resolve_with(&self, files: Files, settings: &Settings) -> Result<PathBuf, HubError> {
        let model = Repo::new(RepoTypeAny::Model, "owner/model").unwrap();
        let result = Revision::new(&model, settings).and_then(|revision| files.folder(&revision));
        if let Err(error) = &result {
            let error = error.to_string();
            assert!(error.contains("owner/model") && !error.contains('\n'), "{error}");
        }
        result
    }

    /// How often a file of a repository was asked for.
    fn downloaded_of(&self, repository: &str, file: &str) -> usize {
        let request = format!("GET /{repository}/resolve/{COMMIT}/{file}");
        self.log.lock().unwrap().iter().filter(|line| **line == request).count()
    }

    /// The files whose contents were asked for since the last call, sorted.
    fn downloaded(&self) -> Vec<String> {
        let log = std::mem::take(&mut *self.log.lock().unwrap());
        let prefix = format!("GET /owner/model/resolve/{COMMIT}/");
        let mut files: Vec<_> = log.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_string).collect();
        files.sort();
        files
    }
}

fn contents(files: &[(&'static str, &str)]) -> BTreeMap<&'static str, Vec<u8>> {
    files.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
}

fn answer(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<String>>, base: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    if reader.read_line(&mut request).is_ok_and(|read| read == 0) {
        return;
    }
    let (mut token, mut range) = (None, None);
    let mut seen = (String::new(), String::new());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        if let Some((_, value)) = line.trim_end().split_once("authorization: Bearer ") {
            token = Some(value.to_string());
        }
        if let Some(value) = line.trim_end().strip_prefix("authorization: ") {
            seen.0 = value.to_string();
        }
        if let Some(value) = line.trim_end().strip_prefix("range: bytes=") {
            range = value.split_once('-').and_then(|(from, to)| {
                Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok().map(|last| last + 1)))
            });
            range = range.filter(|_| !script.no_parts);
            seen.1 = value.to_string();
        }
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    log.lock().unwrap().push(format!("{method} {path}"));
    script.seen.lock().unwrap().push(seen);

    let mut reply = |status: &str, headers: &str, body: &[u8], sent: usize| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        let body = if method == "HEAD" { &[] } else { &body[..sent] };
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    let error =
        script.error.or((script.token != token.as_deref() && script.token.is_some())
            .then_some(("401 Unauthorized", "RepoNotFound")));
    if let Some((status, code)) = error {
        return reply(status, &format!("X-Error-Code: {code}\r\n"), b"", 0);
    }
    let path = path.split('?').next().unwrap_or_default();
    // The same repository as a data set.
    let path = path.replacen("/api/datasets/", "/api/models/", 1).replacen("/datasets/", "/", 1);
    let path = path.as_str();
    if path.contains("xet-read-token") {
        let body = format!(r#"{{"accessToken": "x", "exp": 4000000000, "casUrl": "{base}"}}"#);
        return reply("200 OK", "", body.as_bytes(), body.len());
    }
    // A repository that has an owner now.
    if let Some(rest) = path.strip_prefix("/api/models/model/") {
        let place = format!("Location: /api/datasets/owner/model/{rest}\r\n");
        return reply("307 Temporary Redirect", &place, b"", 0);
    }
    if path == "/api/models/owner/model/revision/main" {
        let commit = if let Lie::Commit(commit) = script.lie { commit } else { COMMIT };
        let body = format!(r#"{{"id": "owner/model", "sha": "{commit}"}}"#);
        return reply("200 OK", "", body.as_bytes(), body.len());
    }
    if path == "/api/models/owner/model/tree/main" || path == format!("/api/models/owner/model/tree/{COMMIT}") {
        if script.lie == Lie::EndlessList {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[");
            while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
            return;
        }
        let mut entries: Vec<_> = script
            .files
            .iter()
            .map(|(name, bytes)| format!(r#"{{"type":"file","oid":"x","size":{},"path":"{name}"}}"#, bytes.len()))
            .collect();
        if let Lie::Entries(more) = script.lie {
            entries.push(more.to_string());
        }
        let body = format!("[{}]", entries.join(","));
        let next = match script.lie {
            Lie::Pages => format!("Link: <{base}{path}?cursor=1>; rel=\"next\"\r\n"),
            _ => String::new(),
        };
        return reply("200 OK", &next, body.as_bytes(), body.len());
    }
    let resolve = format!("/owner/model/resolve/{COMMIT}/");
    if let (Lie::EndlessPage(status), "GET") = (script.lie, method) {
        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes());
        while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
        return;
    }
    let name = path.strip_prefix(&resolve).or(path.strip_prefix("/cdn/")).unwrap_or_default();
    let Some((&name, bytes)) = script.files.get_key_value(name) else {
        return reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", b"", 0);
    };
    if method == "GET"
        && let Some(status) = script.busy.lock().unwrap().pop()
    {
        return reply(status, script.later, b"later", 5);
    }
    if let (Some(status), "GET") = (script.refused.get(name), method) {
        return reply(status, "", b"denied", 6);
    }
    let commit = if let Lie::FileCommit(commit) = script.lie { commit } else { COMMIT };
    let etag = |hash: String| if let Lie::ETag(etag) = script.lie { etag.to_string() } else { format!("\"{hash}\"") };
    if let Lie::Location(place) = script.lie {
        let headers = format!("Location: {place}\r\nX-Repo-Commit: {COMMIT}\r\nETag: {}\r\n", etag(git_name(bytes)));
        return reply("302 Found", &headers, b"", 0);
    }
    if script.redirected.contains(&name) && path.starts_with(&resolve) {
        let headers = format!(
            "Location: {}/cdn/{name}\r\nX-Repo-Commit: {commit}\r\nX-Linked-Etag: {}\r\nETag: \"of the answer\"\r\n\
             X-Linked-Size: {}\r\n",
            script.elsewhere.as_deref().unwrap_or(base),
            etag(lfs_name(bytes)),
            bytes.len()
        );
        return reply("302 Found", &headers, b"", 0);
    }
    let mut headers = format!("ETag: {}\r\nX-Repo-Commit: {commit}\r\n", etag(git_name(bytes)));
    if let Lie::Xet(hash) = script.lie {
        headers += &format!("X-Xet-Hash: {hash}\r\n");
    }
    let sent = match script.lie {
        Lie::Zeros => vec![0; bytes.len()],
        Lie::Longer => [bytes.as_slice(), b"more"].concat(),
        _ => bytes.clone(),
    };
    let (from, end) = range.map_or((0, sent.len()), |(from, to)| (from, to.unwrap_or(sent.len()).min(sent.len())));
    let mut until = end;
    if method == "GET"
        && let Some(breaks) = script.breaks.lock().unwrap().get_mut(name)
        && *breaks > 0
    {
        *breaks -= 1;
        until = from + (end - from) / 2;
    }
    if let (Some(together), "GET") = (&script.together, method) {
        together.wait();
    }
    let mut stalls = script.stalls.lock().unwrap();
    let stalls =
        method == "GET" && stalls.iter().position(|stalling| *stalling == name).map(|at| stalls.remove(at)).is_some();
    if stalls {
        until = from + (end - from) / 2;
    }
    match range {
        None => reply("200 OK", &headers, &sent, until),
        Some(_) => {
            let headers = format!("{headers}Content-Range: bytes {from}-{}/{}\r\n", end - 1, sent.len());
            reply("206 Partial Content", &headers, &sent[from..end], until - from)
        }
    }
    if stalls {
        // Until the other side gives up.
        let _ = reader.read_line(&mut line);
    }
}

const MODEL: [(&str, &str); 7] = [
    ("config.json", "{}"),
    ("generation_config.json", "{\"a\": 1}"),
    ("model.safetensors", "the weights"),
    ("pytorch_model.bin", "the same weights"),
    ("tokenizer.json", "{\"b\": 2}"),
    ("vocab.txt", "words"),
    ("README.md", "a model"),
];
