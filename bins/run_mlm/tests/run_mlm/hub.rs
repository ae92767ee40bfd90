//! A stand-in for the Hub on this machine, with data sets.
#![allow(dead_code, reason = "every program's tests use their own part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use crate::common::{Run, Scratch};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const README: &str = "---\n\
configs:\n\
- config_name: wikitext-103-raw-v1\n  data_files:\n  - split: train\n    path: wikitext-103-raw-v1/train-*\n\
- config_name: wikitext-2-raw-v1\n  data_files:\n  - split: test\n    path: wikitext-2-raw-v1/test-*\n  - split: train\n    path: wikitext-2-raw-v1/train-*\n  - split: validation\n    path: wikitext-2-raw-v1/validation-*\n\
---\n\
# WikiText\n";
const README_HASH: &str = "001842e4d8ba0c6de64b589cedce60ebbfd9ba751e4921762f513344a7ca704b";
const TRAIN: (&[u8], &str) = (
    include_bytes!("../fixtures/wikitext/train.parquet"),
    "100e94afc5dc48068f2544c4dc45e08b7c7e0978ed0074b932b973070c8233d6",
);
const VALIDATION: (&[u8], &str) = (
    include_bytes!("../fixtures/wikitext/validation.parquet"),
    "55a4b320bd6701c494ae401d67a7197716a077e814602e395b572eccf7268d58",
);
const TEST: (&[u8], &str) = (
    include_bytes!("../fixtures/wikitext/test.parquet"),
    "be94188588382913ecc939db7cfab6fb49c04317a19d4271205bf09e85c3869a",
);
/// More than is read of a text at a time.
static LINES: LazyLock<String> =
    LazyLock::new(|| (0..40_000).map(|line| format!("line {line} tells of a clock\n")).collect());
/// The files of each repository; `wikitext` has an owner now, `owner/gated` wants a token, `owner/scripted` is a script that
/// the Hub converted.
fn files(repository: &str) -> Vec<File> {
    let file = |path: &'static str, (bytes, hash): (&'static [u8], &'static str)| (path, bytes, hash);
    match repository {
        "Salesforce/wikitext" => vec![
            ("README.md", README.as_bytes(), README_HASH),
            file("wikitext-2-raw-v1/train-00000-of-00001.parquet", TRAIN),
            file("wikitext-2-raw-v1/validation-00000-of-00001.parquet", VALIDATION),
            file("wikitext-2-raw-v1/test-00000-of-00001.parquet", TEST),
        ],
        "owner/scripted@main" | "owner/alone@main" => {
            vec![(if repository.contains("alone") { "alone.py" } else { "scripted.py" }, &b""[..], README_HASH)]
        }
        "owner/scripted" => {
            vec![file("only/train/0000.parquet", TRAIN), file("only/validation/0000.parquet", VALIDATION)]
        }
        "owner/gated" => vec![file("train.parquet", TRAIN)],
        "owner/streamed" => {
            vec![file("data/train-00000-of-00002.parquet", TRAIN), file("data/train-00001-of-00002.parquet", TEST)]
        }
        "owner/texts" => vec![("train.txt", LINES.as_bytes(), README_HASH)],
        other => SERVED.lock().expect("no panic").get(other).cloned().unwrap_or_default(),
    }
}

/// A file of a repository: its path, its bytes and their SHA-256.
type File = (&'static str, &'static [u8], &'static str);

/// Folders that are served as repositories.
static SERVED: Mutex<BTreeMap<String, Vec<File>>> = Mutex::new(BTreeMap::new());

/// Serves the files below a folder as a repository of this name, for as long as the tests run. Without `sha256sum` there is
/// none.
pub fn serve(repository: &str, folder: &Path) -> bool {
    let mut files: Vec<File> = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(below).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(output) = Command::new("sha256sum").arg(&path).output() else { return false };
            let hash =
                String::from_utf8(output.stdout).expect("UTF-8").split(' ').next().unwrap_or_default().to_string();
            let name = path.strip_prefix(folder).expect("below it").display().to_string();
            let bytes = std::fs::read(&path).expect("a file");
            files.push((name.leak(), bytes.leak(), hash.leak()));
        }
    }
    SERVED.lock().expect("no panic").insert(repository.to_string(), files);
    true
}

/// A stand-in for the Hub. It sends parts of files, from another address of its own, and is busy as often as it is told to.
pub struct TestHub {
    endpoint: String,
    log: Arc<Mutex<Vec<String>>>,
    /// How the next requests for a file's bytes end: with a status, or, if that is empty, in the middle.
    troubles: Arc<Mutex<Vec<&'static str>>>,
}

impl TestHub {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (heard, troubles) = (Arc::clone(&log), Arc::new(Mutex::new(Vec::new())));
        let (ahead, base) = (Arc::clone(&troubles), endpoint.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, troubles, base) = (Arc::clone(&heard), Arc::clone(&ahead), base.clone());
                std::thread::spawn(move || answer(stream, &log, &troubles, &base));
            }
        });
        Self { endpoint, log, troubles }
    }

    pub fn run(&self, scratch: &Scratch, words: &str) -> Run {
        let mut command = scratch.command();
        command.args(words.split(' ')).env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", &self.endpoint);
        let output = command.output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The files that were sent since the last call, sorted.
    pub fn sent(&self) -> Vec<String> {
        let log = std::mem::take(&mut *self.log.lock().expect("no panic"));
        let mut sent: Vec<String> = log
            .iter()
            .filter_map(|line| {
                Some(line.strip_prefix("GET /datasets/")?.split_once(&format!("{COMMIT}/"))?.1.to_string())
            })
            .collect();
        sent.sort();
        sent
    }

    /// How many parts of files were asked for since the last call.
    pub fn parts(&self) -> usize {
        let log = std::mem::take(&mut *self.log.lock().expect("no panic"));
        log.iter().filter(|line| line.starts_with("GET /cdn/")).count()
    }
}

fn answer(mut stream: TcpStream, log: &Mutex<Vec<String>>, troubles: &Mutex<Vec<&str>>, base: &str) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut lines = BufReader::new(copy).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let (mut token, mut range) = (false, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        token |= line == "authorization: Bearer hf_secret";
        range = line
            .strip_prefix("range: bytes=")
            .and_then(|range| {
                let (from, to) = range.split_once('-')?;
                Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
            })
            .or(range);
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let part = range.map_or(String::new(), |(from, to)| format!(" {from}-{to}"));
    log.lock().expect("no panic").push(format!("{method} {path}{part}"));
    let mut reply = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        let body: &[u8] = if method == "HEAD" { b"" } else { body };
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    if let Some(rest) = path.strip_prefix("/api/datasets/wikitext/") {
        return reply(
            "307 Temporary Redirect",
            &format!("Location: /api/datasets/Salesforce/wikitext/{rest}\r\n"),
            b"",
        );
    }
    let is_elsewhere = path.starts_with("/cdn/");
    let rest = path.trim_start_matches("/cdn").trim_start_matches("/api");
    // Models have no folder of their own where files are asked for.
    let rest = rest.trim_start_matches("/datasets/").trim_start_matches("/models/").trim_start_matches('/');
    let parts: Vec<&str> = rest.splitn(5, '/').collect();
    let [owner, name, what, revision, ..] = parts[..] else { return reply("404 Not Found", "", b"") };
    let repository = format!("{owner}/{name}");
    if repository == "owner/gated" && !token && !is_elsewhere {
        return reply("403 Forbidden", "X-Error-Code: GatedRepo\r\n", b"");
    }
    let scripted = files(&format!("{repository}@main"));
    let (found, commit) = match scripted.is_empty() {
        true => (files(&repository), COMMIT.to_string()),
        // The script's branch has another commit than the converted one.
        false if revision == "main" || revision.starts_with('f') => (scripted, "f".repeat(40)),
        false => (files(&repository), COMMIT.to_string()),
    };
    if found.is_empty() {
        let code = if repository == "owner/alone" { "RevisionNotFound" } else { "RepoNotFound" };
        return reply("404 Not Found", &format!("X-Error-Code: {code}\r\n"), b"");
    }
    match what {
        "revision" => reply("200 OK", "", format!(r#"{{"id": "{repository}", "sha": "{commit}"}}"#).as_bytes()),
        "tree" => {
            let entry = |(path, bytes, _): &(&str, &[u8], &str)| {
                format!(r#"{{"type":"file","oid":"x","size":{},"path":"{path}"}}"#, bytes.len())
            };
            let entries: Vec<String> = found.iter().map(entry).collect();
            reply("200 OK", "", format!("[{}]", entries.join(",")).as_bytes());
        }
        _ => match found.iter().find(|(path, ..)| parts.get(4) == Some(path)) {
            Some(_) if range.is_some() && !is_elsewhere => {
                reply("302 Found", &format!("Location: {base}/cdn{path}\r\n"), b"");
            }
            Some((_, bytes, _)) if range.is_some() => {
                let (from, to) = range.unwrap_or_default();
                let trouble = troubles.lock().expect("no panic").pop();
                if let Some(status) = trouble.filter(|status| !status.is_empty()) {
                    return reply(status, "", b"");
                }
                let part = &bytes[from..=to.min(bytes.len() - 1)];
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{to}/{}\r\n\r\n",
                    part.len(),
                    bytes.len()
                );
                let sent = if trouble.is_some() { part.len() / 2 } else { part.len() };
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&part[..sent]));
            }
            Some((_, bytes, hash)) => {
                reply("200 OK", &format!("ETag: \"{hash}\"\r\nX-Repo-Commit: {commit}\r\n"), bytes);
            }
            None => reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", b""),
        },
    }
}

/// Trains a model that these flags describe on data sets of the Hub that are streamed: the model is that of the same files on
/// the disk, also after a resume; only parts of files are asked for, and none is kept.
pub fn streams_from_the_hub(model: &str) {
    let scratch = Scratch::prepared();
    for (path, bytes, _) in [files("owner/streamed"), files("owner/texts")].concat() {
        scratch.write(&format!("set/{path}"), bytes);
    }
    let hub = TestHub::new();
    let words = |data: &str, steps: usize, folder: &str| {
        format!(
            "{model} {data} --do_train --streaming --max_steps {steps} --save_steps 3 --lr_scheduler_type constant \
             --per_device_train_batch_size 2 --output_dir {folder} --shuffle_buffer_size 5"
        )
    };
    let weights = |folder: &str| std::fs::read(scratch.path(folder).join("model.safetensors")).expect("weights");
    for (set, files) in [("owner/streamed", "set/data/*.parquet"), ("owner/texts", "set/train.txt")] {
        let name = set.trim_start_matches("owner/");
        let (set, here) = (format!("--dataset_name {set}"), format!("--train_file {files}"));
        scratch.run(&words(&here, 6, &format!("{name}-here"))).done();
        let troubles = ["", "429 Too Many Requests", "", "503 Service Unavailable"];
        *hub.troubles.lock().expect("no panic") = troubles.to_vec();
        hub.log.lock().expect("no panic").clear();
        let run = hub.run(&scratch, &words(&set, 6, &format!("{name}-there"))).done();
        assert!(weights(&format!("{name}-here")) == weights(&format!("{name}-there")), "{name}");
        assert!(
            hub.troubles.lock().expect("no panic").is_empty() && run.stderr.contains("asking again"),
            "{}",
            run.stderr
        );
        // Ended and taken up again.
        hub.run(&scratch, &words(&set, 3, &format!("{name}-resumed"))).done();
        hub.run(&scratch, &words(&set, 6, &format!("{name}-resumed"))).done();
        assert!(weights(&format!("{name}-here")) == weights(&format!("{name}-resumed")), "{name} resumed");

        let log = hub.log.lock().expect("no panic");
        let wanted = log.iter().filter(|line| line.contains("/resolve/") && !line.ends_with("README.md"));
        assert!(
            wanted.clone().count() > 3 && wanted.clone().all(|line| line.split(' ').count() == 3),
            "parts only: {log:?}"
        );
        for kept in ["blobs", "snapshots"] {
            assert!(!scratch.path(&format!("hub/hub/datasets--owner--{name}/{kept}")).exists(), "{name}: {kept}");
        }
    }
}
