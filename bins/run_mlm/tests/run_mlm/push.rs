//! `--push_to_hub`, to a stand-in for the Hub on this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::common::{Run, Scratch};

const RUN: &str = "--model_name_or_path bert --train_file train.txt --line_by_line --max_seq_length 24 --do_train \
                   --max_steps 4 --save_steps 2 --per_device_train_batch_size 2 --push_to_hub --hub_token hf_s3cret";

/// Takes commits to `owner/mine`.
struct Hub {
    endpoint: String,
    commits: Arc<Mutex<Vec<Commit>>>,
}

/// Its message, and the paths of its files.
type Commit = (String, Vec<String>);

impl Hub {
    /// Every request whose path has this part is answered with this status.
    fn refusing(part: &'static str, status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let commits = Arc::<Mutex<Vec<_>>>::default();
        let (taken, base) = (Arc::clone(&commits), endpoint.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &taken, &base, (part, status));
            }
        });
        Self { endpoint, commits }
    }

    fn run(&self, scratch: &Scratch, flags: &str) -> Run {
        let mut command = scratch.command();
        command.args(RUN.split_whitespace()).args(flags.split(' '));
        command.env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN").env("HF_ENDPOINT", &self.endpoint);
        command.output().expect("the program starts").into()
    }

    fn messages(&self) -> Vec<String> {
        self.commits.lock().expect("no panic").iter().map(|(message, _)| message.clone()).collect()
    }

    fn files_of(&self, message: &str) -> Vec<String> {
        let commits = self.commits.lock().expect("no panic");
        let commit = commits.iter().find(|(made, _)| made == message);
        commit.unwrap_or_else(|| panic!("no commit `{message}`")).1.clone()
    }
}

fn answer(mut stream: TcpStream, commits: &Mutex<Vec<Commit>>, base: &str, refused: (&str, u16)) {
    let mut reader = BufReader::new(stream.try_clone().expect("a copy"));
    let (mut request, mut line, mut length) = (String::new(), String::new(), 0);
    let _ = reader.read_line(&mut request);
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        if let Some(value) = line.to_ascii_lowercase().trim_end().strip_prefix("content-length: ") {
            length = value.parse().expect("a number");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let is_refused = !refused.0.is_empty() && path.contains(refused.0);
    let reply = if is_refused {
        json!({"error": "not today"})
    } else if path == "/api/repos/create" {
        json!({"url": format!("{base}/owner/mine")})
    } else if path.contains("/preupload/") {
        let asked: Value = serde_json::from_slice(&body).expect("JSON");
        let files = asked["files"].as_array().expect("a list").iter();
        json!({"files": files.map(|file| json!({"path": file["path"], "uploadMode": "regular"})).collect::<Vec<_>>()})
    } else {
        let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let paths = lines[1..].iter().map(|line| text(&line["value"]["path"])).collect();
        commits.lock().expect("no panic").push((text(&lines[0]["value"]["summary"]), paths));
        json!({"success": true, "commitOid": "0".repeat(40), "commitUrl": format!("{base}/owner/mine/commit/0")})
    };
    let (status, reply) = (if is_refused { refused.1 } else { 200 }, reply.to_string());
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", reply.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(reply.as_bytes()));
}

/// Checkpoints while training goes on, as the strategy says, and the whole at the end; the token is nowhere.
#[test]
fn what_is_uploaded_when() {
    let scratch = Scratch::prepared();
    let hub = Hub::refusing("", 0);
    let run = hub
        .run(&scratch, "--hub_model_id owner/mine --hub_strategy checkpoint --hub_always_push --output_dir out")
        .done();
    let messages = hub.messages();
    for step in [2, 4] {
        let (model, whole) =
            (format!("Training in progress, step {step}"), format!("Training in progress, step {step}, checkpoint"));
        let files = hub.files_of(&model);
        assert!(files.contains(&"model.safetensors".into()) && files.contains(&"vocab.txt".into()), "{files:?}");
        assert!(!files.iter().any(|file| file.contains("optimizer") || file.contains("run_state")), "{files:?}");
        assert!(hub.files_of(&whole).contains(&"last-checkpoint/optimizer.pt".into()), "{messages:?}");
    }
    assert_eq!(messages.last().map(String::as_str), Some("End of training"), "{messages:?}");
    let files = hub.files_of("End of training");
    for file in
        ["README.md", "config.json", "model.safetensors", "tokenizer_config.json", "train_results.json", "report.html"]
    {
        assert!(files.contains(&file.to_owned()), "{file}: {files:?}");
    }
    let card = scratch.read("out/README.md");
    assert!(card.contains("BertForMaskedLM.from_pretrained(\"owner/mine\")"), "{card}");
    assert!(!files.iter().any(|file| file.contains("checkpoint") || file.starts_with('.')), "{files:?}");
    assert!(run.stderr.contains("uploaded to owner/mine"), "{}", run.stderr);
    assert!(!scratch.list("out").iter().any(|name| name.starts_with("tmp-")), "{:?}", scratch.list("out"));
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("s3cret"));
    for file in scratch.list("out").iter().filter(|name| scratch.path(&format!("out/{name}")).is_file()) {
        let bytes = std::fs::read(scratch.path(&format!("out/{file}"))).expect("a file");
        assert!(!bytes.windows(6).any(|window| window == b"s3cret"), "{file}");
    }

    let hub = Hub::refusing("", 0);
    hub.run(&scratch, "--hub_model_id owner/mine --hub_strategy end --output_dir quiet").done();
    assert_eq!(hub.messages(), ["End of training"]);
}

/// No upload that fails ends a run, but a token that may not write is known before it begins.
#[test]
fn uploads_that_fail() {
    let scratch = Scratch::prepared();
    let run = Hub::refusing("/commit/", 500).run(&scratch, "--hub_model_id owner/mine --output_dir out");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stderr.contains("500") && run.stderr.contains("upload it with `hf upload owner/mine out`"),
        "{}",
        run.stderr
    );
    assert!(scratch.path("out/model.safetensors").is_file());

    let refused = Hub::refusing("/api/", 401).run(&scratch, "--hub_model_id owner/mine --output_dir no");
    let refused = refused.fails(1, &["--push_to_hub", "does not let this token write", "--hub_token"]);
    assert_eq!(refused.stderr.lines().count(), 1, "known before the text is read: {}", refused.stderr);
    assert!(!scratch.path("no/model.safetensors").exists());
}
