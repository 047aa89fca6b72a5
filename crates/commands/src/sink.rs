//! Where records go: text in crash's layout, or one JSON document per command.

use std::fmt;
use std::io;

use kdive_base::Gap;
use serde::Serialize;

/// The place of a record in a command's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Column titles: they belong to the text and to nothing else.
    Heading,
    /// What is said once, before the rows.
    Header,
    /// One of many.
    Row,
    /// What is said once, after the rows.
    Trailer,
}

/// The reader of the output has gone, or the output failed.
#[derive(Debug, thiserror::Error)]
#[error("writing the output failed: {0}")]
pub struct Closed(#[from] pub io::Error);

/// The text of a record.
pub trait Render {
    /// How the user wants it shown (radix, columns).
    type View: ?Sized;

    /// Writes the record's text: whole lines, each with its line feed.
    fn render(&self, view: &Self::View, out: &mut dyn fmt::Write) -> fmt::Result;
}

/// A record as JSON, without knowing its type.
pub trait ToJson {
    /// Appends the record's JSON.
    fn to_json(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;
}

impl<T: Serialize + ?Sized> ToJson for T {
    fn to_json(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, self)
    }
}

/// Which view of a record a sink takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text in crash's layout.
    Text,
    /// JSON.
    Json,
}

/// Takes the records of one command.
pub trait Sink {
    /// The view that it takes: for code that keeps records back until their turn comes.
    fn form(&self) -> Form;

    /// Takes one record with a way to render it; which of the two is used is the sink's affair.
    fn take(
        &mut self,
        part: Part,
        record: &dyn ToJson,
        text: &dyn Fn(&mut dyn fmt::Write) -> fmt::Result,
    ) -> Result<(), Closed>;

    /// Lets the reader have what was taken so far: before a pause.
    fn flush(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}

/// The calls that commands make.
pub trait SinkExt: Sink {
    /// A row.
    fn row<R: Render + Serialize>(&mut self, record: &R, view: &R::View) -> Result<(), Closed> {
        self.take(Part::Row, record, &|out| record.render(view, out))
    }

    /// The header.
    fn header<R: Render + Serialize>(&mut self, record: &R, view: &R::View) -> Result<(), Closed> {
        self.take(Part::Header, record, &|out| record.render(view, out))
    }

    /// The trailer.
    fn trailer<R: Render + Serialize>(&mut self, record: &R, view: &R::View) -> Result<(), Closed> {
        self.take(Part::Trailer, record, &|out| record.render(view, out))
    }

    /// Column titles, with their line feed.
    fn heading(&mut self, titles: &str) -> Result<(), Closed> {
        self.take(Part::Heading, &titles, &|out| out.write_str(titles))
    }

    /// A row of plain text lines: for what has no fields (help pages).
    fn text(&mut self, text: &str) -> Result<(), Closed> {
        self.take(Part::Row, &text, &|out| out.write_str(text))
    }
}

impl<S: Sink + ?Sized> SinkExt for S {}

/// Renders records as text.
pub struct TextSink<W> {
    out: W,
    line: String,
}

impl<W: io::Write> TextSink<W> {
    /// Text into `out`. Give a buffered writer: rows are small.
    pub fn new(out: W) -> Self {
        Self { out, line: String::new() }
    }

    /// Flushes, and gives the writer back.
    pub fn finish(mut self) -> Result<W, Closed> {
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: io::Write> Sink for TextSink<W> {
    fn form(&self) -> Form {
        Form::Text
    }

    fn take(
        &mut self,
        _part: Part,
        _record: &dyn ToJson,
        text: &dyn Fn(&mut dyn fmt::Write) -> fmt::Result,
    ) -> Result<(), Closed> {
        self.line.clear();
        text(&mut self.line).map_err(io::Error::other)?;
        self.out.write_all(self.line.as_bytes())?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Closed> {
        Ok(self.out.flush()?)
    }
}

/// One JSON document: `{"command":..., "header":..., "rows":[...], "trailer":..., "gaps":[...]}`.
///
/// Addresses are hexadecimal strings, every field is optional, and a document always ends with its gaps.
pub struct JsonSink<W> {
    out: W,
    rows: u64,
    trailer: Option<Vec<u8>>,
}

impl<W: io::Write> JsonSink<W> {
    /// Begins the document of a command.
    pub fn new(mut out: W, command: &str) -> Result<Self, Closed> {
        write!(out, "{{\"command\":{}", serde_json::Value::from(command))?;
        Ok(Self { out, rows: 0, trailer: None })
    }

    /// Ends the document.
    pub fn finish(mut self, error: Option<&str>, gaps: &[Gap]) -> Result<W, Closed> {
        self.out.write_all(if self.rows == 0 { b",\"rows\":[]" } else { b"]" })?;
        if let Some(trailer) = self.trailer {
            self.out.write_all(b",\"trailer\":")?;
            self.out.write_all(&trailer)?;
        }
        if let Some(error) = error {
            write!(self.out, ",\"error\":{}", serde_json::Value::from(error))?;
        }
        self.out.write_all(b",\"gaps\":")?;
        serde_json::to_writer(&mut self.out, gaps).map_err(io::Error::other)?;
        self.out.write_all(b"}\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: io::Write> Sink for JsonSink<W> {
    fn form(&self) -> Form {
        Form::Json
    }

    fn take(
        &mut self,
        part: Part,
        record: &dyn ToJson,
        _text: &dyn Fn(&mut dyn fmt::Write) -> fmt::Result,
    ) -> Result<(), Closed> {
        if part == Part::Heading {
            return Ok(());
        }
        let mut json = Vec::new();
        record.to_json(&mut json).map_err(io::Error::other)?;
        match part {
            // A header after rows would break the document's order: it becomes a row.
            Part::Header if self.rows == 0 => self.out.write_all(b",\"header\":")?,
            Part::Trailer => {
                self.trailer = Some(json);
                return Ok(());
            }
            _ => {
                self.out.write_all(if self.rows == 0 { b",\"rows\":[" } else { b"," })?;
                self.rows = self.rows.saturating_add(1);
            }
        }
        self.out.write_all(&json)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        pid: u32,
    }

    impl Render for Row {
        type View = ();
        fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
            writeln!(out, "{:>5}", self.pid)
        }
    }

    #[test]
    fn one_record_two_views() {
        let mut text = TextSink::new(Vec::new());
        text.row(&Row { pid: 7 }, &()).unwrap();
        assert_eq!(text.finish().unwrap(), b"    7\n");

        let mut json = JsonSink::new(Vec::new(), "ps").unwrap();
        json.header(&Row { pid: 1 }, &()).unwrap();
        json.heading("  PID\n").unwrap();
        json.row(&Row { pid: 7 }, &()).unwrap();
        json.row(&Row { pid: 8 }, &()).unwrap();
        let document = json.finish(None, &[]).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(value["rows"][1]["pid"], 8);
        assert_eq!(value["gaps"].as_array().unwrap().len(), 0);

        let empty = JsonSink::new(Vec::new(), "ps").unwrap().finish(Some("no tasks"), &[]).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&empty).unwrap();
        assert_eq!(value["error"], "no tasks");
    }
}
