//! Files that are read over the network and kept nowhere, and downloads from a Hub that is busy.

use std::io::Read;
use std::time::Instant;

use super::*;

const FILE: &str = "data/train.csv";

/// A text in which every place looks different.
fn text() -> Vec<u8> {
    (0..60_000u32).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

fn script() -> Script {
    Script { files: BTreeMap::from([(FILE, text()), ("README.md", b"---\n---\n".to_vec())]), ..Script::default() }
}

fn set(settings: Settings) -> Arc<DataSet> {
    Arc::new(DataSet::open(Repo::new(RepoTypeAny::Dataset, "owner/model").unwrap(), settings).unwrap())
}

fn read(file: &RemoteFile, from: u64, to: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.open(from, to)?.read_to_end(&mut bytes).map(|_| bytes)
}

fn has_files(folder: &std::path::Path) -> bool {
    let blobs = folder.join("datasets--owner--model");
    ["blobs", "snapshots"]
        .iter()
        .any(|name| std::fs::read_dir(blobs.join(name)).is_ok_and(|mut found| found.next().is_some()))
}

/// From the Hub itself or from where it sends one; only what is wanted; nothing is kept.
#[test]
fn parts_of_a_file_are_read() {
    let (text, size) = (text(), text().len() as u64);
    for redirected in [Vec::new(), vec![FILE]] {
        let hub = TestHub::new(Script { redirected, ..script() });
        let file = RemoteFile::of(&set(hub.settings()), FILE).unwrap();
        assert_eq!((file.size(), file.address()), (size, format!("hf://datasets/owner/model@{COMMIT}/{FILE}")));
        hub.script.seen.lock().unwrap().clear();
        for (from, to) in
            [(0, size), (0, 1), (100_000, 100_010), (size - 5, size), (size - 5, u64::MAX), (7, 7), (size, size)]
        {
            let part = &text[from as usize..to.min(size) as usize];
            assert!(read(&file, from, to).unwrap() == part, "{from} to {to}");
        }
        let seen = hub.script.seen.lock().unwrap();
        let mut ranges: Vec<&str> = seen.iter().map(|(_, range)| range.as_str()).collect();
        ranges.dedup();
        let last = format!("{}-{}", size - 5, size - 1);
        assert_eq!(ranges, [&format!("0-{}", size - 1), "0-0", "100000-100009", &last], "nothing else is asked for");
        assert!(!has_files(hub.cache.path()));
    }
}

/// A connection that breaks, a Hub that is busy and one that falls silent: reading goes on at the next byte.
#[test]
fn reading_goes_on_where_it_broke_off() {
    let busy = || Mutex::new(vec!["503 Service Unavailable", "429 Too Many Requests", "500 Internal Server Error"]);
    let hub = TestHub::new(Script {
        redirected: vec![FILE],
        breaks: Mutex::new(HashMap::from([(FILE, 4)])),
        stalls: Mutex::new(vec![FILE]),
        busy: busy(),
        ..script()
    });
    let file = RemoteFile::of(&set(hub.settings()), FILE).unwrap();
    hub.script.seen.lock().unwrap().clear();
    assert!(read(&file, 1000, u64::MAX).unwrap() == text()[1000..]);
    let asked: Vec<String> = hub.script.seen.lock().unwrap().iter().map(|(_, range)| range.clone()).collect();
    let mut starts: Vec<u64> = asked.iter().map(|range| range.split('-').next().unwrap().parse().unwrap()).collect();
    assert!(starts.is_sorted());
    starts.dedup();
    assert!(starts.len() >= 5 && starts[0] == 1000, "{starts:?}");
    assert!(hub.script.stalls.lock().unwrap().is_empty() && hub.script.busy.lock().unwrap().is_empty());

    // A download likewise.
    let hub = TestHub::new(Script {
        breaks: Mutex::new(HashMap::from([(FILE, 1)])),
        stalls: Mutex::new(vec![FILE]),
        busy: busy(),
        ..script()
    });
    let folder = set(hub.settings()).download(&[FILE.to_string()]).unwrap();
    assert!(std::fs::read(folder.join(FILE)).unwrap() == text());
}

/// As long as a busy Hub says, in reading and in a download; the pauses of our own are a millisecond.
#[test]
fn the_pause_is_the_hubs() {
    for later in ["Retry-After: 1\r\n", "RateLimit: \"api\";r=0;t=1\r\n"] {
        let busy = Mutex::new(vec!["429 Too Many Requests"]);
        let hub = TestHub::new(Script { later, busy, ..script() });
        let set = set(hub.settings());
        let begun = Instant::now();
        assert!(read(&RemoteFile::of(&set, FILE).unwrap(), 0, 9).unwrap() == text()[..9]);
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let busy = Mutex::new(vec!["429 Too Many Requests"]);
    let hub = TestHub::new(Script { later: "Retry-After: 1\r\n", busy, ..script() });
    let set = set(hub.settings());
    let begun = Instant::now();
    set.download(&[FILE.to_string()]).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// What does not pass is told at once, what passes after some attempts, and each says which file.
#[test]
fn reading_ends_with_a_reason() {
    let fails = |change: &dyn Fn(&mut Script), from: u64| {
        let mut script = script();
        change(&mut script);
        let hub = TestHub::new(script);
        let settings = Settings { retry_delay: Duration::ZERO, ..hub.settings() };
        let error = read(&RemoteFile::of(&set(settings), FILE).unwrap(), from, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("owner/model") && !error.contains('\n'), "{error}");
        (error, hub.downloaded_of("datasets/owner/model", FILE))
    };
    let (error, asked) = fails(&|script| *script.busy.get_mut().unwrap() = vec!["503 Service Unavailable"; 100], 0);
    assert!(error.contains("data/train.csv from byte 0 on (503 Service Unavailable), asked 12 times"), "{error}");
    assert_eq!(asked, 12);
    let (error, asked) = fails(&|script| script.refused = HashMap::from([(FILE, "403 Forbidden")]), 0);
    assert!(error.contains("refused the token") && asked == 1, "{error}");
    let (error, asked) = fails(&|script| script.refused = HashMap::from([(FILE, "404 Not Found")]), 0);
    assert!(error.contains("no such dataset") && asked == 1, "{error}");
    let (error, asked) = fails(&|script| script.no_parts = true, 5);
    assert!(error.contains("what no Hub answers: not bytes 5 to") && asked == 1, "{error}");
    // Nothing may be downloaded either, and that is said.
    let hub = TestHub::new(Script { busy: Mutex::new(vec!["429 Too Many Requests"; 100]), ..script() });
    let error = set(hub.settings()).download(&[FILE.to_string()]).unwrap_err();
    assert!(error.to_string().contains("429 Too Many Requests"), "{error}");
}

/// What was downloaded before is read from the cache, also without the Hub; other files are not asked for then.
#[test]
fn the_cache_is_read_first() {
    let hub = TestHub::new(script());
    set(hub.settings()).download(&["README.md".to_string()]).unwrap();
    let requests = hub.log.lock().unwrap().len();
    let offline = set(Settings { offline: true, ..hub.settings() });
    let readme = RemoteFile::of(&offline, "README.md").unwrap();
    assert_eq!(read(&readme, 1, 5).unwrap(), b"--\n-");
    let error = RemoteFile::of(&offline, FILE).err().unwrap();
    assert!(matches!(&error, HubError::NotCached { missing, .. } if missing == FILE), "{error}");
    assert_eq!(hub.log.lock().unwrap().len(), requests, "nobody was asked");
    let nobody = set(Settings { endpoint: "http://127.0.0.1:1".into(), ..hub.settings() });
    let error = RemoteFile::of(&nobody, FILE).err().unwrap();
    assert!(matches!(&error, HubError::NoNetwork { missing, .. } if missing == FILE), "{error}");
}
