//! Where a column lies among the buffers of a record batch.

use arrow_ipc::{Endianness, Field, MetadataVersion, Type, UnionMode};

use crate::source::column::{ARRAY, NUMBER};

/// The columns of a file.
pub(super) struct Schema {
    pub names: Vec<String>,
    /// What each holds, if it is no text.
    pub kinds: Vec<Option<&'static str>>,
    pub layouts: Vec<Layout>,
}

/// A column's place and form.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Its place among the counts of values, those of buffers, and those of views, as far as they are known before a batch.
    pub node: usize,
    pub buffer: usize,
    pub views_before: usize,
    pub form: Form,
    /// Values are numbers of entries.
    pub dictionary: Option<Numbers>,
}

/// How strings lie in buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing but missing ones: no buffer.
    #[default]
    Null,
    /// Where each ends, in so many bytes, and then all of them.
    Ends(usize),
    /// Short ones, and places of long ones.
    Views,
}

/// The numbers that stand for entries of a dictionary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub id: i64,
    /// Bytes of one.
    pub width: usize,
}

impl Schema {
    pub fn of(schema: &arrow_ipc::Schema<'_>, version: MetadataVersion) -> Result<Self, String> {
        if schema.endianness() != Endianness::Little {
            return Err("its numbers are big-endian, which is not read".into());
        }
        let mut found = Self { names: Vec::new(), kinds: Vec::new(), layouts: Vec::new() };
        let mut place = Layout::default();
        for field in schema.fields().iter().flat_map(|fields| fields.iter()) {
            let form = form(&field);
            let dictionary = match field.dictionary() {
                None => None,
                Some(dictionary) => {
                    let width = dictionary.indexType().map_or(4, |index| index.bitWidth() / 8);
                    let width = usize::try_from(width).ok().filter(|width| [1, 2, 4, 8].contains(width));
                    let width = width.ok_or_else(|| format!("column {} has an unknown index", found.names.len()))?;
                    Some(Numbers { id: dictionary.id(), width })
                }
            };
            found.names.push(field.name().unwrap_or_default().to_string());
            found.kinds.push(if form.is_some() { None } else { Some(kind(field.type_type())) });
            found.layouts.push(Layout { form: form.unwrap_or_default(), dictionary, ..place.clone() });
            pass(&field, &mut place, version)?;
        }
        Ok(found)
    }
}

impl Layout {
    /// The only column of a dictionary's message.
    pub fn of_entries(column: &Self) -> Self {
        Self { form: column.form, ..Self::default() }
    }
}

/// None if a column holds no text.
fn form(field: &Field<'_>) -> Option<Form> {
    match field.type_type() {
        Type::Null => Some(Form::Null),
        Type::Utf8 | Type::Binary => Some(Form::Ends(4)),
        Type::LargeUtf8 | Type::LargeBinary => Some(Form::Ends(8)),
        Type::Utf8View | Type::BinaryView => Some(Form::Views),
        _ => None,
    }
}

fn kind(of: Type) -> &'static str {
    match of {
        Type::Bool => "a truth value",
        Type::List | Type::LargeList | Type::FixedSizeList | Type::ListView | Type::LargeListView => ARRAY,
        Type::Struct_ | Type::Map | Type::Union => "an object",
        Type::FixedSizeBinary => "bytes",
        _ => NUMBER,
    }
}

/// Goes past a column and those in it.
fn pass(field: &Field<'_>, place: &mut Layout, version: MetadataVersion) -> Result<(), String> {
    place.node += 1;
    if field.dictionary().is_some() {
        // Of numbers: which there are, and what.
        place.buffer += 2;
        return Ok(());
    }
    place.buffer += match field.type_type() {
        Type::Null | Type::RunEndEncoded => 0,
        Type::FixedSizeList | Type::Struct_ => 1,
        Type::Binary | Type::Utf8 | Type::LargeBinary | Type::LargeUtf8 | Type::ListView | Type::LargeListView => 3,
        Type::Utf8View | Type::BinaryView => {
            place.views_before += 1;
            2
        }
        Type::Union => {
            let dense = field.type_as_union().is_some_and(|union| union.mode() == UnionMode::Dense);
            1 + usize::from(dense) + usize::from(version < MetadataVersion::V5)
        }
        kind if kind.0 <= Type::ENUM_MAX && kind != Type::NONE => 2,
        kind => return Err(format!("column `{}` is of an unknown type, {}", field.name().unwrap_or_default(), kind.0)),
    };
    for child in field.children().iter().flat_map(|children| children.iter()) {
        pass(&child, place, version)?;
    }
    Ok(())
}
