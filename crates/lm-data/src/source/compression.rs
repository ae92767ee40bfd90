//! Compressed files, read as the text in them. The content tells, not the name; members that follow one another are one
//! text. A place in such a file is a place in its text: going on there decompresses what comes before.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::error::{SourceError, failed};
use super::place::{Place, ReadSeek, open_on_disk};
use super::remote::{RemoteFile, Sought};

/// The text of a file, decompressed.
pub(super) type Input = BufReader<Box<dyn Read + Send>>;

type Compressed = BufReader<Box<dyn Read + Send>>;

/// The most memory in KiB for decompressing xz, which a file says itself; `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 512 << 10;

/// A way to compress.
pub(super) struct Compression {
    name: &'static str,
    /// How the names of such files end, in small letters.
    pub extension: &'static str,
    /// Whether a file that begins so is one.
    begins: fn(&[u8]) -> bool,
    open: fn(Compressed) -> io::Result<Box<dyn Read + Send>>,
    /// The command that tests a file.
    test: &'static str,
}

/// Every way there is.
pub(super) static COMPRESSIONS: &[Compression] = &[
    Compression {
        name: "gzip",
        extension: "gz",
        begins: |start| start.starts_with(b"\x1f\x8b"),
        open: |file| Ok(Box::new(Gzip { member: Some(flate2::bufread::GzDecoder::new(file)) })),
        test: "gzip -t",
    },
    Compression {
        name: "bzip2",
        extension: "bz2",
        // After the level come six bytes of pi, or of its square root where the content is empty.
        begins: |start| {
            matches!(
                start,
                [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..]
            )
        },
        open: |file| Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(file))),
        test: "bzip2 -t",
    },
    Compression {
        name: "xz",
        extension: "xz",
        begins: |start| start.starts_with(b"\xfd7zXZ\0"),
        open: |file| Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(file, true, XZ_MEMORY))),
        test: "xz -t",
    },
    Compression {
        name: "zstd",
        extension: "zst",
        begins: |start| start.starts_with(b"\x28\xb5\x2f\xfd"),
        open: |file| {
            let mut decoder = zstd::Decoder::with_buffer(file)?;
            // As far back as `--long=31` looks, where zstd itself asks for leave from 2^27 on: published texts are packed so.
            decoder.window_log_max(31)?;
            Ok(Box::new(decoder))
        },
        test: "zstd -t",
    },
    Compression {
        name: "lz4",
        extension: "lz4",
        begins: |start| start.starts_with(b"\x04\x22\x4d\x18"),
        open: |file| Ok(Box::new(Lz4::new(file))),
        test: "lz4 -t",
    },
];

/// How a file's name ends, in small letters and without the ending of a compression: `csv` of `a.csv.gz`.
pub fn data_extension(path: &Path) -> String {
    let ending = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let last = ending(path);
    if COMPRESSIONS.iter().any(|compression| compression.extension == last) {
        ending(&path.with_extension(""))
    } else {
        last
    }
}

/// A file in which places are sought.
pub(super) enum Opened {
    Disk(File),
    Elsewhere(Arc<dyn RemoteFile>),
}

impl Opened {
    pub fn bytes(&self) -> io::Result<u64> {
        match self {
            Self::Disk(file) => Ok(file.metadata()?.len()),
            Self::Elsewhere(file) => Ok(file.bytes()),
        }
    }

    pub fn seekable(self) -> Box<dyn ReadSeek> {
        match self {
            Self::Disk(file) => Box::new(file),
            Self::Elsewhere(file) => Box::new(Sought::new(file)),
        }
    }
}

/// Opens a file in which places are sought. What is compressed, or a member of an archive, is unpacked first, into a file
/// without a name that is gone when it is closed.
///
/// # Errors
/// If it cannot be read, or there is no room in the folder for temporary files.
pub(super) fn open_file(place: &Place) -> Result<Opened, SourceError> {
    let opened = || {
        let is_plain = |start: &mut dyn Read| {
            let mut bytes = Vec::new();
            start.take(16).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(!COMPRESSIONS.iter().any(|compression| (compression.begins)(&bytes)))
        };
        if let Some(path) = place.on_disk() {
            let mut file = open_on_disk(path)?;
            if is_plain(&mut file)? {
                return Ok(Opened::Disk(file));
            }
        }
        if let Some(file) = place.remote()
            && is_plain(&mut file.open(0, 16)?)?
        {
            return Ok(Opened::Elsewhere(Arc::clone(file)));
        }
        let mut file = tempfile::tempfile()?;
        io::copy(&mut begin(place, 0)?, &mut file)?;
        Ok(Opened::Disk(file))
    };
    opened().map_err(|source| failed(&place.path, source))
}

/// Opens a text at one of its bytes.
pub(super) fn open(place: &Place, byte: u64) -> Result<Input, SourceError> {
    begin(place, byte).map_err(|source| failed(&place.path, source))
}

fn begin(place: &Place, byte: u64) -> io::Result<Input> {
    const BUFFER: usize = 1 << 18;
    let mut file = BufReader::with_capacity(BUFFER, place.open(0)?);
    let start = file.fill_buf()?;
    let Some(compression) = COMPRESSIONS.iter().find(|compression| (compression.begins)(start)) else {
        return Ok(if byte == 0 { file } else { BufReader::with_capacity(BUFFER, place.open(byte)?) });
    };
    let input = (compression.open)(file).map_err(|source| compression.broken(0, &source))?;
    let mut input: Box<dyn Read + Send> = Box::new(Decompressed { input, compression, read: 0 });
    io::copy(&mut input.by_ref().take(byte), &mut io::sink())?;
    Ok(BufReader::with_capacity(BUFFER, input))
}

impl Compression {
    fn broken(&self, read: u64, source: &io::Error) -> io::Error {
        let Self { name, test, .. } = self;
        io::Error::new(
            source.kind(),
            format!(
                "the {name} stream is damaged or cut off after {read} bytes of its text ({source}); check it with {test}"
            ),
        )
    }
}

/// Says where an error of the decoder lies.
struct Decompressed {
    input: Box<dyn Read + Send>,
    compression: &'static Compression,
    read: u64,
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer) {
            Ok(read) => {
                self.read += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(self.compression.broken(self.read, &error)),
        }
    }
}

/// One member after another, and the zeros that may fill a file after the last.
struct Gzip {
    member: Option<flate2::bufread::GzDecoder<Compressed>>,
}

impl Read for Gzip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut member) = self.member.take() {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                self.member = Some(member);
                return Ok(read);
            }
            let mut file = member.into_inner();
            while !file.fill_buf()?.is_empty() {
                let zeros = file.buffer().iter().take_while(|&&byte| byte == 0).count();
                if zeros == 0 {
                    self.member = Some(flate2::bufread::GzDecoder::new(file));
                    break;
                }
                file.consume(zeros);
            }
        }
        Ok(0)
    }
}

/// One frame after another: the decoder ends with each. It also ends, without an error, where the file does before a
/// block; so whether it met the end of the file is watched.
struct Lz4 {
    frames: lz4_flex::frame::FrameDecoder<Watched>,
    finished: bool,
}

struct Watched {
    file: Compressed,
    ended: bool,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

impl Lz4 {
    fn new(file: Compressed) -> Self {
        Self { frames: lz4_flex::frame::FrameDecoder::new(Watched { file, ended: false }), finished: false }
    }
}

impl Read for Lz4 {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.finished && !buffer.is_empty() {
            let read = self.frames.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let Watched { file, ended } = self.frames.get_mut();
            if *ended {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last frame has no end"));
            }
            self.finished = file.fill_buf()?.is_empty();
        }
        Ok(0)
    }
}
