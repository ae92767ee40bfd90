//! A stand-in for the Hub on this machine, with data sets.
#![allow(dead_code, reason = "every program's tests use their own part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use sha2::{Digest, Sha256};

use crate::common::{Run, Scratch, fixture, workspace};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// That of a repository's second revision.
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";
const README: &str = "---\n\
configs:\n\
- config_name: wikitext-103-raw-v1\n  data_files:\n  - split: train\n    path: wikitext-103-raw-v1/train-*\n\
- config_name: wikitext-2-raw-v1\n  data_files:\n  - split: test\n    path: wikitext-2-raw-v1/test-*\n  - split: train\n    path: wikitext-2-raw-v1/train-*\n  - split: validation\n    path: wikitext-2-raw-v1/validation-*\n\
---\n\
# WikiText\n";
const TRAIN: &[u8] = include_bytes!("../fixtures/wikitext/train.parquet");
const VALIDATION: &[u8] = include_bytes!("../fixtures/wikitext/validation.parquet");
const TEST: &[u8] = include_bytes!("../fixtures/wikitext/test.parquet");
/// More than is read of a text at a time.
static LINES: LazyLock<String> =
    LazyLock::new(|| (0..40_000).map(|line| format!("line {line} tells of a clock\n")).collect());

/// A file of a repository: its path and its bytes.
type File = (&'static str, &'static [u8]);

/// A commit that a branch or a tag of a repository leads to.
struct Revision {
    name: &'static str,
    commit: &'static str,
    files: Vec<File>,
}

/// The revisions of each repository; `wikitext` has an owner now, `owner/gated` wants a token, `owner/scripted` is a script that
/// the Hub converted, `owner/alone` one that it did not.
fn revisions(repository: &str) -> Vec<Revision> {
    let main = |files: Vec<File>| vec![Revision { name: "main", commit: COMMIT, files }];
    let and = |name, files| Revision { name, commit: OTHER, files };
    match repository {
        "Salesforce/wikitext" => main(vec![
            ("README.md", README.as_bytes()),
            ("wikitext-2-raw-v1/train-00000-of-00001.parquet", TRAIN),
            ("wikitext-2-raw-v1/validation-00000-of-00001.parquet", VALIDATION),
            ("wikitext-2-raw-v1/test-00000-of-00001.parquet", TEST),
        ]),
        "owner/scripted" => {
            let converted = vec![("only/train/0000.parquet", TRAIN), ("only/validation/0000.parquet", VALIDATION)];
            let mut revisions = main(vec![("scripted.py", &b""[..])]);
            revisions.push(and("refs/convert/parquet", converted));
            revisions
        }
        "owner/alone" => main(vec![("alone.py", &b""[..])]),
        "owner/versions" => {
            let mut revisions = main(vec![("train.parquet", TRAIN)]);
            revisions.push(and("v1.0", vec![("train.parquet", TEST)]));
            revisions
        }
        "owner/gated" => main(vec![("train.parquet", TRAIN)]),
        "owner/streamed" => {
            main(vec![("data/train-00000-of-00002.parquet", TRAIN), ("data/train-00001-of-00002.parquet", TEST)])
        }
        "owner/texts" => main(vec![("train.txt", LINES.as_bytes())]),
        other => SERVED.lock().expect("no panic").get(other).cloned().map(main).unwrap_or_default(),
    }
}

/// Folders that are served as repositories.
static SERVED: Mutex<BTreeMap<String, Vec<File>>> = Mutex::new(BTreeMap::new());

/// Serves the files below a folder as a repository of this name, for as long as the tests run.
pub fn serve(repository: &str, folder: &Path) {
    let mut files: Vec<File> = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(below).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("below it").display().to_string();
            files.push((name.leak(), std::fs::read(&path).expect("a file").leak()));
        }
    }
    SERVED.lock().expect("no panic").insert(repository.to_string(), files);
}

/// Runs the program with these words and with this address for the Hub's.
pub fn run_at(endpoint: &str, scratch: &Scratch, words: &str) -> Run {
    let mut command = scratch.command();
    command.args(words.split_whitespace()).env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", endpoint);
    command.output().expect("the program starts").into()
}

/// A stand-in for the Hub. It sends files from another address of its own, and is busy as often as it is told to.
pub struct TestHub {
    pub endpoint: String,
    log: Arc<Mutex<Vec<String>>>,
    /// How the next requests for a file's bytes end: with a status, or, if that is empty, in the middle.
    pub troubles: Arc<Mutex<Vec<&'static str>>>,
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
        run_at(&self.endpoint, scratch, words)
    }

    /// The files that were sent since the last call, sorted.
    pub fn sent(&self) -> Vec<String> {
        let log = std::mem::take(&mut *self.log.lock().expect("no panic"));
        let mut sent: Vec<String> = log
            .iter()
            .filter_map(|line| {
                Some(line.strip_prefix("GET /datasets/")?.split_once(&format!("/resolve/{COMMIT}/"))?.1.to_string())
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
                Some((from.parse::<usize>().ok()?, to.parse::<usize>().unwrap_or(usize::MAX)))
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
    let known = revisions(&repository);
    if known.is_empty() {
        return reply("404 Not Found", "X-Error-Code: RepoNotFound\r\n", b"");
    }
    let revision = revision.replace("%2F", "/");
    let Some(Revision { commit, files, .. }) =
        known.iter().find(|known| [known.name, known.commit].contains(&&*revision))
    else {
        return reply("404 Not Found", "X-Error-Code: RevisionNotFound\r\n", b"");
    };
    if what == "revision" {
        return reply("200 OK", "", format!(r#"{{"id": "{repository}", "sha": "{commit}"}}"#).as_bytes());
    }
    if what == "tree" {
        let entry =
            |(path, bytes): &File| format!(r#"{{"type":"file","oid":"x","size":{},"path":"{path}"}}"#, bytes.len());
        let entries: Vec<String> = files.iter().map(entry).collect();
        return reply("200 OK", "", format!("[{}]", entries.join(",")).as_bytes());
    }
    let Some((_, bytes)) = files.iter().find(|(path, _)| parts.get(4) == Some(path)) else {
        return reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", b"");
    };
    if !is_elsewhere {
        let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let headers = format!(
            "Location: {base}/cdn{path}\r\nX-Repo-Commit: {commit}\r\nX-Linked-Etag: \"{hash}\"\r\nX-Linked-Size: {}\r\n",
            bytes.len()
        );
        return reply("302 Found", &headers, b"");
    }
    if method == "HEAD" {
        return reply("200 OK", "", bytes);
    }
    let trouble = troubles.lock().expect("no panic").pop();
    if let Some(status) = trouble.filter(|status| !status.is_empty()) {
        return reply(status, "", b"");
    }
    let (from, to) = range.unwrap_or((0, usize::MAX));
    let end = bytes.len().min(to.saturating_add(1));
    let part = &bytes[from..end];
    let status = match range {
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", end - 1, bytes.len()),
        None => "200 OK".to_string(),
    };
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", part.len());
    let sent = if trouble.is_some() { part.len() / 2 } else { part.len() };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&part[..sent]));
}

/// The first command of the scripts' README, of which this is the model's part, word for word but for the steps: the model and
/// the data set come from the Hub.
pub fn the_first_command(model: &str, fixture_of_it: &str, tokenizer: &str, more: &str) {
    let scratch = Scratch::new();
    for file in ["config.json", "model.safetensors"] {
        let bytes = std::fs::read(fixture(&format!("models/{fixture_of_it}")).join(file)).expect("the fixture");
        scratch.write(&format!("model/{file}"), bytes);
    }
    let tokenizer = workspace().join("crates/lm-data/tests/fixtures/tokenizers").join(tokenizer);
    for entry in std::fs::read_dir(tokenizer).expect("the fixture") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        scratch.write(&format!("model/{name}"), std::fs::read(&path).expect("a file"));
    }
    serve(model, &scratch.path("model"));
    let hub = TestHub::new();
    let words = format!(
        "--model_name_or_path {model} --dataset_name wikitext --dataset_config_name wikitext-2-raw-v1 \
         --per_device_train_batch_size 8 --per_device_eval_batch_size 8 --do_train --do_eval --output_dir out {more}"
    );
    let run = hub.run(&scratch, &words).done();
    assert!(run.stderr.contains("wikitext is Salesforce/wikitext on the Hub"), "{}", run.stderr);
    let files = ["train", "validation"].map(|split| format!("wikitext-2-raw-v1/{split}-00000-of-00001.parquet"));
    assert_eq!(hub.sent(), [&["README.md".to_string()], &files[..]].concat(), "only what the run reads");
    let results = scratch.json("out/all_results.json");
    for figure in ["train_loss", "eval_loss", "perplexity", "train_samples", "eval_samples"] {
        assert!(results[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {results}");
    }
    assert!(scratch.path(&format!("hub/hub/models--{}/refs/main", model.replace('/', "--"))).exists());
    // Again, without the Hub.
    scratch.run(&words.replace("--output_dir out", "--output_dir offline")).done();
    assert_eq!(scratch.json("offline/all_results.json")["eval_loss"], results["eval_loss"]);
}

/// Trains a model that these flags describe on data sets of the Hub that are streamed: the model is that of the same files on
/// the disk, also after a resume; only parts of files are asked for, and none is kept.
pub fn streams_from_the_hub(model: &str) {
    let scratch = Scratch::prepared();
    for (path, bytes) in ["owner/streamed", "owner/texts"].into_iter().flat_map(revisions).flat_map(|main| main.files) {
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
