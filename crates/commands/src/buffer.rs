//! A sink that keeps records back, in the form that another sink takes, until their turn comes.

use std::fmt;
use std::io;

use crate::sink::{Closed, Form, Part, Sink, ToJson};

/// What a command gave, kept.
#[derive(Debug)]
pub(crate) struct Buffer {
    form: Form,
    /// Header and column titles: two outputs with the same are one table.
    pub(crate) header: Vec<u8>,
    /// The rows: text as it is, JSON with commas between.
    pub(crate) rows: Vec<u8>,
    /// The trailer.
    pub(crate) trailer: Vec<u8>,
}

impl Buffer {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, header: Vec::new(), rows: Vec::new(), trailer: Vec::new() }
    }

    /// Whether nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.header.is_empty() && self.rows.is_empty() && self.trailer.is_empty()
    }

    /// The kept JSON as members of an object, each after a comma.
    pub(crate) fn json_members(&self, out: &mut Vec<u8>) {
        if !self.header.is_empty() {
            out.extend(b",\"header\":");
            out.extend(&self.header);
        }
        out.extend(b",\"rows\":[");
        out.extend(&self.rows);
        out.push(b']');
        if !self.trailer.is_empty() {
            out.extend(b",\"trailer\":");
            out.extend(&self.trailer);
        }
    }
}

impl Sink for Buffer {
    fn form(&self) -> Form {
        self.form
    }

    fn take(
        &mut self,
        part: Part,
        record: &dyn ToJson,
        text: &dyn Fn(&mut dyn fmt::Write) -> fmt::Result,
    ) -> Result<(), Closed> {
        // As in the output of one command, a header behind rows is a row, and titles behind rows stay there.
        let part = match part {
            Part::Header if !self.rows.is_empty() => Part::Row,
            Part::Heading if !self.rows.is_empty() && self.form == Form::Text => Part::Row,
            part => part,
        };
        let kept = match part {
            Part::Heading if self.form == Form::Json => return Ok(()),
            // Between rows it stays where it is.
            Part::Heading if !self.rows.is_empty() => &mut self.rows,
            Part::Heading | Part::Header => &mut self.header,
            Part::Row => &mut self.rows,
            Part::Trailer => &mut self.trailer,
        };
        match self.form {
            Form::Text => {
                let mut line = String::new();
                text(&mut line).map_err(io::Error::other)?;
                kept.extend(line.as_bytes());
            }
            Form::Json => {
                if part == Part::Row && !kept.is_empty() {
                    kept.push(b',');
                }
                record.to_json(kept).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}

/// JSON that is ready, as a record.
pub(crate) struct ReadyJson(pub(crate) Vec<u8>);

impl ToJson for ReadyJson {
    fn to_json(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        out.extend(&self.0);
        Ok(())
    }
}
