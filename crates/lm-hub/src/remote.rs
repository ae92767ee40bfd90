//! Files of a data set that are read from the Hub a part at a time, and kept nowhere. What the cache has is read from there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::Response;

use crate::HubError;
use crate::dataset::DataSet;
use crate::error::chain;
use crate::http::{Failure, shown};
use crate::snapshot::connect;

/// How often in a row a file is asked for in vain; with the pauses between, some three minutes.
const ATTEMPTS: usize = 12;
/// The longest pause before it is asked for again, unless the Hub asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A file of a data set at a commit, which never changes.
#[derive(Clone)]
pub struct RemoteFile {
    set: Arc<DataSet>,
    /// Its path in the repository.
    path: String,
    size: u64,
    /// Where the cache has it.
    cached: Option<PathBuf>,
}

impl RemoteFile {
    /// A file of the list of a data set.
    ///
    /// # Errors
    /// If the cache does not have it, and the Hub must not be asked or does not answer.
    pub fn of(set: &Arc<DataSet>, path: &str) -> Result<Self, HubError> {
        let revision = set.revision()?;
        let cached = matches!(revision.has(&set.commit, path), Ok(true));
        if !cached {
            set.may_ask(path)?;
        }
        let cached = cached.then(|| revision.cache.snapshot(&set.commit).join(path));
        let size = set.sizes.get(path).copied().unwrap_or(0);
        Ok(Self { set: Arc::clone(set), path: path.to_string(), size, cached })
    }

    /// See [`DataSet::address`].
    pub fn address(&self) -> String {
        self.set.address(&self.path)
    }

    /// Bytes of it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its bytes from one of them up to another, as they come. Where they break off they are asked for again.
    ///
    /// # Errors
    /// If it cannot be read. Reading may fail too, after several attempts.
    pub fn open(&self, from: u64, to: u64) -> io::Result<Box<dyn Read + Send>> {
        let to = to.min(self.size);
        if let Some(cached) = &self.cached {
            let mut file = File::open(cached)?;
            file.seek(SeekFrom::Start(from))?;
            return Ok(Box::new(file.take(to.saturating_sub(from))));
        }
        Ok(Box::new(Incoming { file: self.clone(), at: from, to, response: None, failed: 0 }))
    }

    /// Asks once for the bytes from one of them on.
    fn ask(&self, from: u64, to: u64) -> Result<Response, HubFailure> {
        let revision = self.set.revision().map_err(HubFailure::Lasting)?;
        let hub = connect(&revision, 1).map_err(HubFailure::Lasting)?;
        let url = self.set.repo.file(hub.endpoint(), &self.set.commit, &self.path);
        hub.range(url, from, to, self.size).map_err(|failure| match failure.passes() {
            true => HubFailure::Passing(failure),
            false => HubFailure::Lasting(revision.explain(failure)),
        })
    }
}

/// Why a file could not be read.
enum HubFailure {
    /// It may be answered later.
    Passing(Failure),
    /// It will not.
    Lasting(HubError),
}

/// Bytes of a file as they come.
struct Incoming {
    file: RemoteFile,
    /// The next byte, and the one after the last.
    at: u64,
    to: u64,
    /// None before the first byte, and where the connection was lost.
    response: Option<Response>,
    /// How often in a row nothing came.
    failed: usize,
}

impl Incoming {
    /// Some of the bytes; none only if there is no more room for them.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, HubFailure> {
        let response = match &mut self.response {
            Some(response) => response,
            none => none.insert(self.file.ask(self.at, self.to)?),
        };
        match response.read(buffer) {
            Ok(0) => {
                let detail = format!("it broke off {} bytes before its end", self.to - self.at);
                Err(HubFailure::Passing(Failure::Broken(detail)))
            }
            Ok(read) => Ok(read),
            Err(error) => Err(HubFailure::Passing(Failure::Broken(chain(&error)))),
        }
    }

    fn wait(&mut self, failure: &Failure) -> io::Result<()> {
        let DataSet { repo, settings, .. } = &*self.file.set;
        let (file, detail) = (self.file.path.clone(), failure.detail());
        self.response = None;
        self.failed += 1;
        if self.failed == ATTEMPTS {
            let (name, endpoint) = (repo.to_string(), crate::error::without_credentials(&settings.endpoint));
            let (at, attempts) = (self.at, ATTEMPTS);
            return Err(io::Error::other(HubError::Unread { name, endpoint, file, at, detail, attempts }));
        }
        let pause = failure.pause((settings.retry_delay * (1 << (self.failed - 1))).min(LONGEST_PAUSE));
        tracing::warn!("{repo}: {file}: {detail}; asking again{} for what follows byte {}", shown(pause), self.at);
        std::thread::sleep(pause);
        Ok(())
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.to.saturating_sub(self.at)).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        loop {
            match self.receive(&mut buffer[..most]) {
                Ok(read) => {
                    self.at += read as u64;
                    self.failed = 0;
                    return Ok(read);
                }
                Err(HubFailure::Passing(failure)) => self.wait(&failure)?,
                Err(HubFailure::Lasting(error)) => return Err(io::Error::other(error)),
            }
        }
    }
}
