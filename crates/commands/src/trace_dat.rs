//! `ftrace -w`: a trace buffer as a file for trace-cmd and KernelShark (trace-cmd.dat.v6(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::rc::Rc;

use kdive_base::VirtAddr;
use kdive_linux::trace::{Decoder, EventFormat, FieldShown, RingBuffer};
use kdive_target::Kernel;

use crate::command::CommandError;
use crate::cx::Cx;

/// What the file says of the events in it.
#[derive(Default)]
struct Contents {
    /// By system, then by number.
    formats: BTreeMap<String, BTreeMap<u16, Rc<EventFormat>>>,
    /// Names of tasks.
    commands: BTreeMap<i32, String>,
    /// Formats of `trace_printk`, by their address.
    texts: BTreeSet<u64>,
}

/// Writes a buffer. The pages of the rings are copied as they are; what describes them is made of the dump.
pub(crate) fn write(
    cx: &mut Cx,
    buffer: &RingBuffer,
    decoder: &mut Decoder<'_>,
    path: &str,
) -> Result<u64, CommandError> {
    let kernel = cx.kernel.clone();
    let mut contents = Contents::default();
    let mut count = 0_u64;
    for raw in buffer.events(&kernel, None) {
        cx.cancel.check()?;
        // What is lost is told by the listing; here it is a page without events.
        let Ok(raw) = raw else { continue };
        count = count.saturating_add(1);
        let Some(format) = decoder.format(&raw) else { continue };
        let event = decoder.event(&raw, format.system == "ftrace");
        if let Some((pid, command)) = event.pid.zip(event.command) {
            contents.commands.insert(pid, command);
        }
        let texts = event.fields.iter().filter(|(name, _)| name == "fmt" || name == "str");
        contents.texts.extend(texts.filter_map(|(_, value)| match value {
            FieldShown::Int(at) => Some(at.cast_unsigned()),
            FieldShown::Text(_) | FieldShown::Bytes(_) => None,
        }));
        contents.formats.entry(format.system.clone()).or_default().insert(format.id, format);
    }
    let failed = |error: io::Error| CommandError::not_found(format!("ftrace: {path}: {error}"));
    let mut out = io::BufWriter::new(cx.files.create(path).map_err(failed)?);
    let head = contents.head(&kernel, buffer.page_bytes);
    out.write_all(&head).and_then(|()| rings(cx, buffer, head.len(), &mut out)).map_err(failed)?;
    out.flush().map_err(failed)?;
    Ok(count)
}

/// The processors' rings: where each begins, then their pages.
fn rings(cx: &mut Cx, buffer: &RingBuffer, written: usize, out: &mut dyn Write) -> io::Result<()> {
    const KIND: &[u8] = b"flyrecord\0";
    const PLACE: usize = 16;
    let kernel = cx.kernel.clone();
    let processors = buffer.rings.iter().map(|ring| ring.cpu as usize + 1).max().unwrap_or(0);
    let mut pages = vec![Vec::new(); processors];
    for ring in &buffer.rings {
        let (found, broken) = ring.pages(&kernel);
        if let Some(why) = broken {
            cx.lacks(&why, "pages of a trace buffer", String::new);
        }
        if let Some(slot) = pages.get_mut(ring.cpu as usize) {
            *slot = found;
        }
    }
    let page_bytes = buffer.page_bytes as usize;
    out.write_all(&(processors as u32).to_le_bytes())?;
    out.write_all(KIND)?;
    let table_end = written.saturating_add(4).saturating_add(KIND.len()).saturating_add(processors * PLACE);
    let first = table_end.next_multiple_of(page_bytes);
    let mut at = first;
    for pages in &pages {
        let bytes = pages.len().saturating_mul(page_bytes);
        out.write_all(&(at as u64).to_le_bytes())?;
        out.write_all(&(bytes as u64).to_le_bytes())?;
        at = at.saturating_add(bytes);
    }
    out.write_all(&vec![0; first.saturating_sub(table_end)])?;
    let mut page = vec![0; page_bytes];
    for at in pages.into_iter().flatten() {
        page.fill(0);
        if let Err(missing) = kernel.memory().read_exact(at, &mut page) {
            cx.lacks(&missing.into(), "a page of a trace buffer", String::new);
            page.fill(0);
        }
        out.write_all(&page)?;
    }
    Ok(())
}

impl Contents {
    /// All that comes before the number of processors.
    fn head(&self, kernel: &Kernel, page_bytes: u64) -> Vec<u8> {
        let mut out = b"\x17\x08\x44tracing6\0".to_vec();
        // Little endian, `long` of 8 bytes.
        out.extend([0, 8]);
        out.extend((page_bytes as u32).to_le_bytes());
        out.extend(b"header_page\0");
        push_long(&mut out, &header_page(page_bytes));
        out.extend(b"header_event\0");
        push_long(&mut out, HEADER_EVENT);
        let none = BTreeMap::new();
        let own = self.formats.get("ftrace").unwrap_or(&none);
        out.extend((own.len() as u32).to_le_bytes());
        own.values().for_each(|format| push_long(&mut out, &format_file(format)));
        let others = self.formats.iter().filter(|(system, _)| *system != "ftrace");
        out.extend((others.clone().count() as u32).to_le_bytes());
        for (system, events) in others {
            out.extend(system.as_bytes());
            out.push(0);
            out.extend((events.len() as u32).to_le_bytes());
            events.values().for_each(|format| push_long(&mut out, &format_file(format)));
        }
        push_short(&mut out, &symbols(kernel));
        push_short(&mut out, &self.printk(kernel));
        let commands: String = self.commands.iter().map(|(pid, name)| format!("{pid} {name}\n")).collect();
        push_long(&mut out, &commands);
        out
    }

    /// As the file `printk_formats` of tracefs.
    fn printk(&self, kernel: &Kernel) -> String {
        const LONGEST: usize = 4096;
        let mut text = String::new();
        for at in &self.texts {
            let Ok(bytes) = kernel.memory().c_string(VirtAddr(*at), LONGEST) else { continue };
            let format = String::from_utf8_lossy(&bytes)
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = writeln!(text, "{at:#x} : \"{format}\"");
        }
        text
    }
}

fn push_long(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_short(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Code, as `/proc/kallsyms` shows it.
fn symbols(kernel: &Kernel) -> String {
    let mut text = String::new();
    for symbol in kernel.symbols().into_iter().flat_map(|symbols| symbols.iter()) {
        if !symbol.kind.is_code() {
            continue;
        }
        let _ = write!(text, "{} {} {}", symbol.address, symbol.kind.letter(), symbol.name);
        if let Some(module) = symbol.module {
            let _ = write!(text, "\t[{module}]");
        }
        text.push('\n');
    }
    text
}

fn header_page(page_bytes: u64) -> String {
    const HEADER: u64 = 16;
    let field = |what: &str, offset: u64, size: u64, signed: u32| {
        format!("\tfield: {what};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n")
    };
    [
        field("u64 timestamp", 0, 8, 0),
        field("local_t commit", 8, 8, 1),
        field("int overwrite", 8, 1, 1),
        field("char data", HEADER, page_bytes.saturating_sub(HEADER), 1),
    ]
    .concat()
}

const HEADER_EVENT: &str = "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\
    \tarray       :   32 bits\n\n\tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\
    \tdata max type_len  == 28\n";

/// The last field that all events have.
const COMMON_PID: &str = "int common_pid";

/// As the file `format` of an event.
fn format_file(format: &EventFormat) -> String {
    let mut text = format!("name: {}\nID: {}\nformat:\n", format.name, format.id);
    let mut field = |what: &str, offset: u32, size: u32, signed: bool| {
        let signed = u32::from(signed);
        let _ = writeln!(text, "\tfield:{what};\toffset:{offset};\tsize:{size};\tsigned:{signed};");
        if what == COMMON_PID {
            // The empty line ends the fields that all events have.
            text.push('\n');
        }
    };
    field("unsigned short common_type", 0, 2, false);
    field("unsigned char common_flags", 2, 1, false);
    field("unsigned char common_preempt_count", 3, 1, false);
    field(COMMON_PID, 4, 4, true);
    for of in &format.fields {
        let what = match of.kind.split_once('[') {
            // The dimension of an array stands behind the name, but where the data are elsewhere.
            Some((kind, dimension)) if !kind.starts_with("__") || kind.starts_with("__u") => {
                format!("{kind} {}[{dimension}", of.name)
            }
            _ => format!("{} {}", of.kind, of.name),
        };
        field(&what, of.offset, of.size, of.signed);
    }
    let _ = write!(text, "\nprint fmt: {}\n", format.print_fmt);
    text
}

#[cfg(test)]
mod tests {
    use kdive_linux::trace::EventField;

    use super::*;

    #[test]
    fn formats_are_those_of_tracefs() {
        let field = |name: &str, kind: &str, offset, size| EventField {
            name: name.into(),
            kind: kind.into(),
            offset,
            size,
            signed: false,
        };
        let mut format = EventFormat::default();
        (format.name, format.id) = ("probe".into(), 7);
        format.fields = vec![field("comm", "char[16]", 8, 16), field("path", "__data_loc char[]", 24, 4)];
        format.print_fmt = "\"%s\", REC->comm".into();
        let text = format_file(&format);
        assert!(text.starts_with("name: probe\nID: 7\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"));
        assert!(text.contains("\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"));
        assert!(text.contains("\tfield:__data_loc char[] path;\toffset:24;\tsize:4;\tsigned:0;\n"));
        assert!(text.ends_with("\nprint fmt: \"%s\", REC->comm\n"));
    }

    #[test]
    fn the_header_names_the_size_of_a_page() {
        assert!(header_page(4096).ends_with("\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n"));
    }
}
