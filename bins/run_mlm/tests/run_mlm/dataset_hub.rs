//! `--dataset_name` with a stand-in for the Hub on this machine: the first command of every tutorial of the scripts.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

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
/// The files of each repository; `wikitext` has an owner now, `owner/gated` wants a token, `owner/scripted` is a script that
/// the Hub converted.
fn files(repository: &str) -> Vec<(&'static str, &'static [u8], &'static str)> {
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
        _ => Vec::new(),
    }
}

struct TestHub {
    endpoint: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl TestHub {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&heard);
                std::thread::spawn(move || answer(stream, &log));
            }
        });
        Self { endpoint, log }
    }

    fn run(&self, scratch: &Scratch, words: &str) -> Run {
        let mut command = scratch.command();
        command.args(words.split(' ')).env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", &self.endpoint);
        let output = command.output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The files that were sent since the last call, sorted.
    fn sent(&self) -> Vec<String> {
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
}

fn answer(mut stream: TcpStream, log: &Mutex<Vec<String>>) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut lines = BufReader::new(copy).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let mut token = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        token |= line == "authorization: Bearer hf_secret";
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    log.lock().expect("no panic").push(format!("{method} {path}"));
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
    let rest = path.trim_start_matches("/api").trim_start_matches("/datasets/");
    let parts: Vec<&str> = rest.splitn(5, '/').collect();
    let [owner, name, what, revision, ..] = parts[..] else { return reply("404 Not Found", "", b"") };
    let repository = format!("{owner}/{name}");
    if repository == "owner/gated" && !token {
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
            Some((_, bytes, hash)) => {
                reply("200 OK", &format!("ETag: \"{hash}\"\r\nX-Repo-Commit: {commit}\r\n"), bytes);
            }
            None => reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", b""),
        },
    }
}

#[test]
fn the_first_command_of_every_tutorial() {
    let scratch = Scratch::prepared();
    let hub = TestHub::new();
    let words = "--dataset_name wikitext --dataset_config_name wikitext-2-raw-v1 --model_name_or_path bert --line_by_line \
                 --max_seq_length 16 --max_steps 2 --per_device_train_batch_size 8 --do_train";
    let run = hub.run(&scratch, &format!("{words} --do_eval --output_dir out")).done();
    assert!(run.stderr.contains("wikitext is Salesforce/wikitext on the Hub"), "{}", run.stderr);
    let files = ["train", "validation"].map(|split| format!("wikitext-2-raw-v1/{split}-00000-of-00001.parquet"));
    assert_eq!(hub.sent(), [&["README.md".to_string()], &files[..]].concat(), "only what the run reads");
    assert_eq!(scratch.json("out/train_results.json")["train_samples"], 40);
    assert_eq!(scratch.json("out/eval_results.json")["eval_samples"], 8);
    let card = scratch.read("out/README.md");
    assert!(
        card.contains("datasets:\n- wikitext\n") && card.contains("the wikitext wikitext-2-raw-v1 dataset"),
        "{card}"
    );
    assert!(scratch.path("hub/hub/datasets--Salesforce--wikitext/refs/main").exists(), "Python's own folder");

    // Again, without the Hub.
    scratch.run(&format!("{words} --do_eval --output_dir offline")).done();
    hub.run(&scratch, &format!("{words} --output_dir again --train_split test[:5]")).done();
    assert_eq!(hub.sent(), ["wikitext-2-raw-v1/test-00000-of-00001.parquet"]);
    assert_eq!(scratch.json("again/train_results.json")["train_samples"], 5);
    hub.run(&scratch, &format!("{words} --output_dir streamed --streaming")).done();
}

#[test]
fn data_sets_that_are_not_there() {
    let scratch = Scratch::prepared();
    let hub = TestHub::new();
    let run = |flags: &str| {
        let words = "--model_name_or_path bert --line_by_line --max_seq_length 16 --do_train --do_eval --max_steps 1";
        hub.run(&scratch, &format!("{words} --output_dir out {flags}"))
    };
    run("--dataset_name owner/nothing")
        .fails(1, &["owner/nothing", "no such dataset on", "private dataset needs a token"]);
    run("--dataset_name owner/gated").fails(1, &["access is restricted", "/datasets/owner/gated"]);
    run("--dataset_name owner/gated --token hf_secret").done();
    run("--dataset_name wikitext").fails(1, &["no default", "one of wikitext-103-raw-v1, wikitext-2-raw-v1"]);
    let config = "--dataset_name wikitext --dataset_config_name";
    run(&format!("{config} wikitext-3")).fails(1, &["no configuration `wikitext-3`", "wikitext-103-raw-v1"]);
    run(&format!("{config} wikitext-2-raw-v1 --train_split dev"))
        .fails(1, &["no split `dev`", "test, train, validation"]);
    run("--dataset_name owner/alone").fails(1, &["made by alone.py", "refs/convert/parquet", "--train_file"]);
    let scripted = run("--dataset_name owner/scripted --overwrite_output_dir").done();
    assert!(scripted.stderr.contains("made by scripted.py, which is not run"), "{}", scripted.stderr);
    scratch
        .run("--dataset_name owner/unseen --model_name_or_path bert --do_train --output_dir out")
        .fails(1, &["owner/unseen", "HF_HUB_OFFLINE forbids"]);
}
