//! The examples of files one after another, read and tokenized as they are asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use lm_random::{Purpose, permute};

use super::position::StreamPosition;
use crate::DataError;
use crate::example::{Cut, Cutter, EncodedRow, encode_rows};
use crate::reading::read_chunk;
use crate::source::{RowPosition, Rows, TextFiles};
use crate::tokenizer::LmTokenizer;

/// Which rows are read, and how examples are made of them.
pub(crate) struct Source {
    pub files: TextFiles,
    /// The first row of an epoch that takes the files in their order; earlier ones are held out.
    pub first_row: RowPosition,
    /// Examples of an epoch at the most.
    pub most: u64,
    pub cut: Cut,
    pub tokenizer: Arc<LmTokenizer>,
    pub pool: Arc<rayon::ThreadPool>,
}

/// The examples of an epoch, file by file; and then of the next.
pub(super) struct Ordered {
    pub source: Source,
    /// Orders the files anew in every epoch.
    seed: Option<u64>,
    pub epoch: u64,
    /// Examples given out in this epoch.
    pub examples: u64,
    pub cutter: Cutter,
    /// The files in the order of this epoch, and which of them is read.
    order: Vec<usize>,
    at: usize,
    /// The open file, and where reading goes on.
    reader: Option<Rows>,
    read: RowPosition,
    /// Rows read ahead and tokenized, each with the position after it.
    ahead: VecDeque<(Option<EncodedRow>, RowPosition)>,
    /// After the last row given to the cutter.
    row: RowPosition,
    /// Where the stream stood before that row, how many examples were given out since, and how many of those that were
    /// given out by an earlier run are still to be made again.
    before: StreamPosition,
    given: u64,
    again: u64,
}

/// Rows tokenized at a time.
const ROWS_AHEAD: u64 = 512;

impl Ordered {
    pub fn new(source: Source, seed: Option<u64>, position: StreamPosition) -> Self {
        let mut ordered = Self {
            seed,
            epoch: position.epoch,
            examples: position.examples,
            order: Vec::new(),
            at: 0,
            reader: None,
            read: RowPosition::default(),
            ahead: VecDeque::new(),
            row: RowPosition::default(),
            before: StreamPosition::default(),
            given: 0,
            again: position.given,
            cutter: Cutter::new(source.cut, Vec::new(), 0),
            source,
        };
        ordered.order_files();
        if position != StreamPosition::default() {
            ordered.examples = position.examples.saturating_sub(position.given);
            ordered.before = StreamPosition { given: 0, examples: ordered.examples, ..position.clone() };
            ordered.cutter = Cutter::new(ordered.source.cut, position.carry, position.rows_in_group);
            ordered.at = ordered.order.iter().position(|file| *file == position.row.file).unwrap_or(usize::MAX);
            (ordered.row, ordered.read) = (position.row, position.row);
        }
        ordered
    }

    /// Where the next example begins.
    pub fn position(&self) -> StreamPosition {
        if self.again > 0 || self.cutter.is_ahead() {
            let given = self.given + self.again;
            return StreamPosition { given, examples: self.before.examples + given, ..self.before.clone() };
        }
        self.after_row()
    }

    /// Where the stream stands when all examples are given out of the rows given to the cutter.
    fn after_row(&self) -> StreamPosition {
        let (carry, rows_in_group) = self.cutter.state();
        StreamPosition {
            epoch: self.epoch,
            examples: self.examples,
            row: self.row,
            rows_in_group,
            carry,
            ..StreamPosition::default()
        }
    }

    /// The next example of this epoch with its index, packed; none at the end of it.
    pub fn next(&mut self) -> Result<Option<(u64, Vec<u32>)>, DataError> {
        while self.again > 0 {
            self.make()?;
            self.again -= 1;
        }
        self.make()
    }

    fn make(&mut self) -> Result<Option<(u64, Vec<u32>)>, DataError> {
        if self.examples == self.source.most {
            return Ok(None);
        }
        loop {
            if let Some(example) = self.cutter.next() {
                self.examples += 1;
                self.given += 1;
                return Ok(Some((self.examples - 1, example)));
            }
            if self.ahead.is_empty() {
                self.read_ahead()?;
            }
            let Some((row, after)) = self.ahead.pop_front() else { return Ok(None) };
            if row.is_some() {
                (self.before, self.given) = (self.after_row(), 0);
            }
            self.row = after;
            if let Some(row) = row {
                self.cutter.push(row.tokens);
            }
        }
    }

    /// Begins the next epoch.
    pub fn start_epoch(&mut self) {
        self.cutter.end();
        self.ahead.clear();
        self.again = 0;
        (self.epoch, self.examples) = (self.epoch + 1, 0);
        self.order_files();
    }

    /// Orders the files of the epoch, and goes to the first row.
    fn order_files(&mut self) {
        let first = self.source.first_row.file;
        let files = (self.source.files.len().saturating_sub(first)) as u64;
        let place = |at| match self.seed {
            Some(seed) => permute(at, files, seed, Purpose::ShuffleFiles, self.epoch),
            None => at,
        };
        self.order = (0..files).map(|at| first + place(at) as usize).collect();
        (self.at, self.reader) = (0, None);
        self.read = self.start_of_file();
        self.row = self.read;
    }

    /// Where the rows of the file begin that is read.
    fn start_of_file(&self) -> RowPosition {
        match self.order.get(self.at) {
            Some(&file) if file != self.source.first_row.file => RowPosition::start_of(file),
            _ => self.source.first_row,
        }
    }

    fn read_ahead(&mut self) -> Result<(), DataError> {
        let (mut texts, mut begins, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(&file) = self.order.get(self.at) {
            let files = &self.source.files;
            let reader =
                self.reader.get_or_insert_with(|| files.single(file).rows_from(RowPosition { file: 0, ..self.read }));
            let more = read_chunk(reader, &mut texts, ROWS_AHEAD, |after| {
                begins.push(self.read);
                self.read = RowPosition { file, ..after };
                ends.push(self.read);
            })?;
            if more || texts.len() as u64 == ROWS_AHEAD {
                break;
            }
            (self.at, self.reader) = (self.at + 1, None);
            self.read = self.start_of_file();
        }
        let Source { cut, tokenizer, pool, files, .. } = &self.source;
        let encoded = pool.install(|| encode_rows(&texts, cut, tokenizer));
        let encoded = encoded.map_err(|fault| DataError::row(files, begins[fault.row], fault.error))?;
        self.ahead = encoded.into_iter().zip(ends).collect();
        Ok(())
    }
}
