//! Commits to a stand-in for the Hub on this machine.

use std::io::Read;
use std::time::Instant;

use serde_json::{Value, json};

use super::*;

/// What the stand-in answers: the status of each request in turn, 200 when there are no more; and what it was sent.
#[derive(Default)]
struct Hub {
    statuses: Mutex<Vec<u16>>,
    /// Method and path, token, body.
    seen: Mutex<Vec<(String, String, Vec<u8>)>>,
    /// Files that it calls large.
    large: Vec<&'static str>,
    /// Commits that are not answered, on a connection that stays open.
    stalls: Mutex<usize>,
}

fn serve(hub: Hub) -> (String, Arc<Hub>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (endpoint, hub) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(hub));
    let (shared, base) = (hub.clone(), endpoint.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &shared, &base);
        }
    });
    (endpoint, hub)
}

fn answer(mut stream: TcpStream, hub: &Hub, base: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut request, mut line, mut token, mut length) = (String::new(), String::new(), String::new(), 0);
    reader.read_line(&mut request).unwrap();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => token = value.into(),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let words: Vec<&str> = request.split(' ').collect();
    let path = words[1].to_owned();
    hub.seen.lock().unwrap().push((format!("{} {path}", words[0]), token, body.clone()));
    let stalls = hub.stalls.lock().unwrap().checked_sub(1).filter(|_| path.contains("/commit/"));
    if let Some(left) = stalls {
        *hub.stalls.lock().unwrap() = left;
        // Until the other side gives up.
        let _ = reader.read_line(&mut line);
        return;
    }
    let status = hub.statuses.lock().unwrap().pop().unwrap_or(200);
    let reply = match path.as_str() {
        _ if status != 200 => json!({"error": "the stand-in says so"}),
        "/api/whoami-v2" => json!({"name": "owner", "type": "user"}),
        "/api/repos/create" => json!({"url": format!("{base}/owner/model")}),
        path if path.contains("/preupload/") => {
            let files: Value = serde_json::from_slice(&body).unwrap();
            let mode = |file: &Value| {
                let path = file["path"].as_str().unwrap();
                json!({"path": path, "uploadMode": if hub.large.contains(&path) { "lfs" } else { "regular" }})
            };
            json!({"files": files["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>()})
        }
        path if path.ends_with("/info/lfs/objects/batch") => json!({"transfer": "basic", "objects": []}),
        _ => json!({"success": true, "commitOid": COMMIT, "commitUrl": format!("{base}/owner/model/commit/{COMMIT}")}),
    };
    let reply = reply.to_string();
    let later = if status == 429 { "Retry-After: 1\r\n" } else { "" };
    let length = reply.len();
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{later}Content-Length: {length}\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(reply.as_bytes()));
}

fn settings(endpoint: &str) -> Settings {
    Settings {
        endpoint: endpoint.into(),
        revision: "main".into(),
        token: Some("hf_secret".into()),
        cache: PathBuf::new(),
        offline: false,
        retry_delay: Duration::from_millis(1),
        upload_silence: Duration::from_millis(300),
    }
}

/// The lines of the last commit.
fn committed(hub: &Hub) -> Vec<Value> {
    let seen = hub.seen.lock().unwrap();
    let (_, _, body) = seen.iter().rfind(|(request, ..)| request.contains("/commit/")).unwrap();
    body.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn files_are_committed_to_a_repository_that_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        (folder.path().join(name), format!("in/{name}"))
    };
    let files = [file("config.json", "{}"), file("model.safetensors", "weights")];
    // A large file that the Hub does not want by Xet goes with the commit.
    let (endpoint, hub) = serve(Hub { large: vec!["in/model.safetensors"], ..Hub::default() });
    let repository = Repository::of("model", Some(true), &settings(&endpoint), Some("a/branch".into())).unwrap();
    assert_eq!(repository.name(), "owner/model");
    repository.commit(&files, "Training in progress, step 3").unwrap();
    let lines = committed(&hub);
    assert_eq!(lines[0]["value"]["summary"], "Training in progress, step 3");
    let sent: Vec<_> = lines[1..].iter().map(|line| (line["key"].as_str().unwrap(), &line["value"]["path"])).collect();
    assert_eq!(sent, [("file", &json!("in/config.json")), ("file", &json!("in/model.safetensors"))]);
    let seen = hub.seen.lock().unwrap();
    let requests: Vec<&str> = seen.iter().map(|(request, ..)| request.as_str()).collect();
    assert_eq!(
        requests,
        [
            "GET /api/whoami-v2",
            "POST /api/repos/create",
            "POST /api/models/owner/model/preupload/a%2Fbranch",
            "POST /owner/model.git/info/lfs/objects/batch",
            "POST /api/models/owner/model/commit/a%2Fbranch"
        ]
    );
    assert!(seen.iter().all(|(_, token, _)| token == "Bearer hf_secret"));
    let made: Value = serde_json::from_slice(&seen[1].2).unwrap();
    assert_eq!(
        (&made["name"], &made["organization"], &made["private"]),
        (&json!("model"), &json!("owner"), &json!(true))
    );
}

/// What passes is tried again; what does not is an error of one line that says what to do.
#[test]
fn refusals_and_failures() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "a").unwrap();
    let files = [(folder.path().join("a"), "a".to_owned())];
    // Statuses are taken from the end: busy twice while the repository is made, which is there; then while it is committed.
    let (endpoint, hub) = serve(Hub::default());
    *hub.statuses.lock().unwrap() = vec![409, 503, 429];
    let repository = Repository::of("owner/model", None, &settings(&endpoint), None).unwrap();
    *hub.statuses.lock().unwrap() = vec![200, 500, 200, 429];
    repository.commit(&files, "again").unwrap();
    *hub.statuses.lock().unwrap() = vec![500; 40];
    let message = repository.commit(&files, "never").unwrap_err().to_string();
    assert!(message.contains("owner/model: cannot upload to") && message.contains("500"), "{message}");

    let (endpoint, hub) = serve(Hub::default());
    for status in [401, 403] {
        *hub.statuses.lock().unwrap() = vec![status];
        let error = Repository::of("owner/model", None, &settings(&endpoint), None).err().unwrap().to_string();
        assert!(error.contains("does not let this token write") && error.contains("--hub_token"), "{error}");
        assert!(!error.contains("hf_secret") && !error.contains('\n'), "{error}");
    }
    let bare = Settings { token: None, ..settings(&endpoint) };
    let message = Repository::of("owner/model", None, &bare, None).err().unwrap().to_string();
    assert!(message.contains("needs a token that may write"), "{message}");
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Repository::of("owner/model", None, &settings(&format!("http://{closed}")), None).err().unwrap();
    assert!(error.to_string().contains("cannot upload to"), "{error}");
    std::fs::remove_file(folder.path().join("a")).unwrap();
    *hub.statuses.lock().unwrap() = Vec::new();
    let repository = Repository::of("owner/model", None, &settings(&endpoint), None).unwrap();
    assert!(repository.commit(&files, "gone").is_err());
}

/// A Hub that falls silent is asked again, and then no more; one that says when to ask again is asked then.
#[test]
fn silence_and_pauses() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "a").unwrap();
    let files = [(folder.path().join("a"), "a".to_owned())];
    let (endpoint, hub) = serve(Hub { stalls: Mutex::new(2), ..Hub::default() });
    let repository = Repository::of("owner/model", None, &settings(&endpoint), None).unwrap();
    repository.commit(&files, "after silence").unwrap();
    let commits = || hub.seen.lock().unwrap().iter().filter(|(request, ..)| request.contains("/commit/")).count();
    assert_eq!(commits(), 3);
    *hub.stalls.lock().unwrap() = usize::MAX;
    let error = repository.commit(&files, "never").unwrap_err().to_string();
    assert!(error.contains("owner/model: cannot upload to") && error.contains("timed out"), "{error}");
    assert_eq!(commits(), 3 + 6);

    *hub.stalls.lock().unwrap() = 0;
    *hub.statuses.lock().unwrap() = vec![429];
    let begun = Instant::now();
    repository.commit(&files, "a second later").unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}
