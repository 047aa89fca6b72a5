//! Walking entries in the order of the file, over whole subtrees where they are of no interest.

use gimli::constants as dw;
use gimli::{Abbreviation, Attribute, DwAt, EntriesRaw, UnitOffset};

use super::sections::{Entry, Slice, Unit, Value};

pub(super) type Attributes<'a> = Vec<Attribute<Slice<'a>>>;

/// A cursor over an entry and all below it.
#[derive(Clone)]
pub(super) struct Walk<'u, 'a> {
    unit: &'u Unit<'a>,
    raw: EntriesRaw<'u, Slice<'a>>,
    /// Depth of the next entry; the first one has 0.
    depth: usize,
    over: bool,
}

/// An entry whose attributes have not been read yet.
#[derive(Clone, Copy)]
pub(super) struct Head<'u> {
    /// Its offset in the unit.
    pub(super) at: UnitOffset,
    /// Below the entry at which the walk began.
    pub(super) depth: usize,
    pub(super) abbreviation: &'u Abbreviation,
}

impl<'u, 'a> Walk<'u, 'a> {
    /// Begins at an entry.
    pub(super) fn new(unit: &'u Unit<'a>, at: UnitOffset) -> Option<Self> {
        let raw = unit.entries_raw(Some(at)).ok()?;
        Some(Self { unit, raw, depth: 0, over: false })
    }

    /// The next entry. Its attributes have to be read or skipped before the one after it.
    pub(super) fn next(&mut self) -> Option<Head<'u>> {
        while !self.over && !self.raw.is_empty() {
            let at = self.raw.next_offset();
            let Some(abbreviation) = self.raw.read_abbreviation().ok()? else {
                self.depth = self.depth.saturating_sub(1);
                self.over = self.depth == 0;
                continue;
            };
            let head = Head { at, depth: self.depth, abbreviation };
            if abbreviation.has_children() {
                self.depth = self.depth.saturating_add(1);
            }
            // A first entry without children is all there is.
            self.over = self.depth == 0;
            return Some(head);
        }
        None
    }

    pub(super) fn read(&mut self, head: &Head<'_>, into: &mut Attributes<'a>) -> Option<()> {
        self.raw.read_attributes(head.abbreviation.attributes(), into).ok()
    }

    /// Reads the whole entry into a placeholder.
    pub(super) fn read_entry(&mut self, head: &Head<'_>, into: &mut Entry<'a>) -> Option<()> {
        into.tag = head.abbreviation.tag();
        into.has_children = head.abbreviation.has_children();
        into.offset = head.at;
        self.read(head, &mut into.attrs)
    }

    /// An attribute of the first entry below the one whose attributes have just been read, without moving.
    pub(super) fn first_child(&self, name: DwAt) -> Option<Value<'a>> {
        let mut ahead = self.raw.clone();
        let abbreviation = ahead.read_abbreviation().ok()??;
        for &specification in abbreviation.attributes() {
            let attribute = ahead.read_attribute(specification).ok()?;
            if attribute.name() == name {
                return Some(attribute.value());
            }
        }
        None
    }

    /// Reads attributes one by one, keeping none.
    pub(super) fn each(
        &mut self,
        head: &Head<'_>,
        mut each: impl FnMut(&Attribute<Slice<'a>>),
    ) -> Option<()> {
        for &specification in head.abbreviation.attributes() {
            each(&self.raw.read_attribute_inline(specification).ok()?);
        }
        Some(())
    }

    pub(super) fn skip(&mut self, head: &Head<'_>) -> Option<()> {
        self.raw.skip_attributes(head.abbreviation.attributes()).ok()
    }

    /// Goes over all below `head`, whose attributes have just been read. `sibling` is what its `DW_AT_sibling` says.
    pub(super) fn skip_children(&mut self, head: &Head<'_>, sibling: Option<UnitOffset>) -> Option<()> {
        if !head.abbreviation.has_children() {
            return Some(());
        }
        let ahead = sibling.filter(|&sibling| sibling > self.raw.next_offset());
        if let Some(raw) = ahead.and_then(|sibling| self.unit.entries_raw(Some(sibling)).ok()) {
            self.raw = raw;
            self.depth = head.depth;
            self.over = self.depth == 0;
            return Some(());
        }
        while self.depth > head.depth {
            match self.raw.read_abbreviation().ok()? {
                None => self.depth = self.depth.saturating_sub(1),
                Some(abbreviation) => {
                    if abbreviation.has_children() {
                        self.depth = self.depth.saturating_add(1);
                    }
                    self.raw.skip_attributes(abbreviation.attributes()).ok()?;
                }
            }
        }
        self.over = self.depth == 0;
        Some(())
    }

    /// Skips the attributes of `head` and all below it.
    pub(super) fn skip_all(&mut self, head: &Head<'_>) -> Option<()> {
        if !head.abbreviation.has_children() {
            return self.skip(head);
        }
        let mut sibling = None;
        self.each(head, |attribute| sibling = sibling.or(sibling_of(attribute)))?;
        self.skip_children(head, sibling)
    }
}

/// The place of the next entry of the same depth, if this attribute tells it (2.3).
pub(super) fn sibling_of(attribute: &Attribute<Slice<'_>>) -> Option<UnitOffset> {
    match attribute.value() {
        Value::UnitRef(at) if attribute.name() == dw::DW_AT_sibling => Some(at),
        _ => None,
    }
}

pub(super) fn sibling(attributes: &[Attribute<Slice<'_>>]) -> Option<UnitOffset> {
    attributes.iter().find_map(sibling_of)
}
