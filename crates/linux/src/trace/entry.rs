//! Entries of the ring buffers as people read them (kernel/trace/trace_output.c).

use std::fmt::Write as _;
use std::rc::Rc;

use kdive_base::{ByteReader, Endian, VirtAddr};
use kdive_target::Kernel;
use serde::{Serialize, Serializer};

use super::comm::Commands;
use super::eval::Record;
use super::event::{EventFormat, Events};
use super::print_fmt::PrintFmt;
use super::printf::{self, Value};
use super::ring_buffer::RawEvent;

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldShown {
    /// An integer.
    Int(i64),
    /// A string.
    Text(String),
    /// Bytes, in hexadecimal.
    Bytes(String),
}

impl Serialize for FieldShown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Text(text) | Self::Bytes(text) => serializer.serialize_str(text),
        }
    }
}

/// An event of a trace buffer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceEvent {
    /// The processor.
    pub cpu: u32,
    /// When, by the clock of the buffer: nanoseconds, unless that clock counts something else.
    pub time: u64,
    /// The task's number, as the kernel itself counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The task's name: what the kernel noted, or else that of the task with this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Interrupts off, rescheduling wanted, in an interrupt, depth of disabled preemption, of disabled migration:
    /// the letters of the kernel's own listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The system of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The event.
    pub event: String,
    /// What it says.
    pub text: String,
    /// Its fields.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    pub fields: Vec<(String, FieldShown)>,
}

fn as_map<S: Serializer>(fields: &[(String, FieldShown)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

/// Makes events of entries.
pub struct Decoder<'k> {
    kernel: &'k Kernel,
    events: Events<'k>,
    commands: Commands<'k>,
    contexts: Contexts,
}

impl<'k> Decoder<'k> {
    /// For the events of a kernel.
    #[must_use]
    pub fn new(kernel: &'k Kernel, events: Events<'k>) -> Self {
        Self { kernel, events, commands: Commands::find(kernel), contexts: Contexts::find(kernel) }
    }

    /// The event that an entry is of.
    pub fn format(&mut self, raw: &RawEvent) -> Option<Rc<EventFormat>> {
        self.events.format(Endian::Little.u16(&raw.data, 0)?)
    }

    /// An entry as an event.
    pub fn event(&mut self, raw: &RawEvent, with_fields: bool) -> TraceEvent {
        let mut reader = ByteReader::new(&raw.data, Endian::Little);
        // `struct trace_entry`, which has not changed since 2.6.31.
        let id = reader.u16();
        let context = reader.u8().zip(reader.u8());
        let pid = reader.i32();
        let format = id.and_then(|id| self.events.format(id));
        let record = format.as_deref().map(|format| Record { world: self.kernel, format, bytes: &raw.data });
        let text = record.as_ref().map_or_else(
            || printf::hex(raw.data.get(reader.position()..).unwrap_or_default(), " "),
            |record| record.shown(),
        );
        let fields = record.as_ref().filter(|_| with_fields).map(Record::fields).unwrap_or_default();
        TraceEvent {
            cpu: raw.cpu,
            time: raw.time,
            pid,
            command: pid.and_then(|pid| self.commands.of(pid)),
            context: context.map(|(flags, depth)| self.contexts.letters(flags, depth)),
            system: format.as_ref().map(|format| format.system.clone()),
            event: match (&format, id) {
                (Some(format), _) => format.name.clone(),
                (None, Some(id)) => format!("event {id}"),
                (None, None) => "damaged".into(),
            },
            text,
            fields,
        }
    }
}

/// Bits of an entry's flags (`enum trace_flag_type`).
struct Contexts {
    /// Whether the entry knows of soft interrupts that are off, and of disabled migration (5.18).
    has_bh_off: bool,
    /// Whether rescheduling can be wanted lazily (6.13).
    has_lazy: bool,
}

impl Contexts {
    fn find(kernel: &Kernel) -> Self {
        Self {
            has_bh_off: kernel.enumerator("TRACE_FLAG_BH_OFF").is_ok(),
            has_lazy: kernel.enumerator("TRACE_FLAG_NEED_RESCHED_LAZY").is_ok(),
        }
    }

    /// `trace_print_lat_fmt`.
    fn letters(&self, flags: u8, depth: u8) -> String {
        let has = |bit: u8| flags & bit != 0;
        let irqs = match (has(1), has(0x80) && self.has_bh_off) {
            (true, true) => 'D',
            (true, false) => 'd',
            (false, true) => 'b',
            (false, false) if has(2) && !self.has_lazy => 'X',
            (false, false) => '.',
        };
        let resched = match (has(4), has(0x20), has(2) && self.has_lazy) {
            (true, true, true) => 'B',
            (true, true, false) => 'N',
            (true, false, true) => 'L',
            (false, true, true) => 'b',
            (true, false, false) => 'n',
            (false, true, false) => 'p',
            (false, false, true) => 'l',
            (false, false, false) => '.',
        };
        let interrupt = match (has(0x40), has(8), has(0x10)) {
            (true, true, _) => 'Z',
            (true, false, _) => 'z',
            (false, true, true) => 'H',
            (false, true, false) => 'h',
            (false, false, true) => 's',
            (false, false, false) => '.',
        };
        let digit = |value: u8| match char::from_digit(value.into(), 16) {
            Some('0') | None => '.',
            Some(digit) => digit,
        };
        let mut letters: String = [irqs, resched, interrupt, digit(depth & 15)].iter().collect();
        if self.has_bh_off {
            letters.push(digit(depth >> 4));
        }
        letters
    }
}

impl Record<'_> {
    fn int_field(&self, name: &str) -> Option<i64> {
        match self.value(self.format.fields.iter().find(|field| field.name == name)?)? {
            Value::Int(value) => Some(value),
            Value::Bytes(_) | Value::Unknown => None,
        }
    }

    fn bytes_field(&self, name: &str) -> Option<&[u8]> {
        self.data(self.format.fields.iter().find(|field| field.name == name)?)
    }

    fn symbol_field(&self, name: &str) -> Option<String> {
        Some(self.world.symbol(VirtAddr(self.int_field(name)?.cast_unsigned()), false))
    }

    /// All fields with their values.
    fn fields(&self) -> Vec<(String, FieldShown)> {
        let shown = |field: &super::event::EventField| {
            let value = match self.value(field)? {
                Value::Int(value) => FieldShown::Int(value),
                Value::Bytes(bytes) if field.kind.contains("char") => {
                    FieldShown::Text(kdive_base::printable(kdive_base::bytes::until_nul(&bytes)))
                }
                Value::Bytes(bytes) => FieldShown::Bytes(printf::hex(&bytes, "")),
                Value::Unknown => return None,
            };
            Some((field.name.clone(), value))
        };
        self.format.fields.iter().filter_map(shown).collect()
    }

    /// What the entry says: in the way of its event, or else field by field.
    fn shown(&self) -> String {
        let own = match &*self.format.system {
            "ftrace" => self.of_ftrace(),
            "syscalls" => self.of_syscall(),
            _ => None,
        };
        own.or_else(|| self.by_print_fmt()).unwrap_or_else(|| self.by_fields())
    }

    fn by_print_fmt(&self) -> Option<String> {
        let parse = || PrintFmt::parse(&self.format.print_fmt).map(PrintFmt::of_probe);
        self.text(self.format.parsed.get_or_init(parse).as_ref()?)
    }

    fn by_fields(&self) -> String {
        let shown = self.fields().into_iter().map(|(name, value)| match value {
            FieldShown::Int(value) => format!("{name}={value}"),
            FieldShown::Text(text) | FieldShown::Bytes(text) => format!("{name}={text}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// The events of the tracers themselves (kernel/trace/trace_entries.h).
    fn of_ftrace(&self) -> Option<String> {
        match &*self.format.name {
            "function" => Some(format!("{} <-{}", self.symbol_field("ip")?, self.symbol_field("parent_ip")?)),
            "funcgraph_entry" => Some(format!("{}{}() {{", self.indent()?, self.symbol_field("func")?)),
            "funcgraph_exit" => {
                let mut text = format!("{}}} /* {} */", self.indent()?, self.symbol_field("func")?);
                if let Some((began, ended)) = self.int_field("calltime").zip(self.int_field("rettime")) {
                    let _ = write!(text, " {:.3} us", ended.wrapping_sub(began) as f64 / 1000.0);
                }
                Some(text)
            }
            "print" => Some(format!("{}: {}", self.symbol_field("ip")?, line(self.bytes_field("buf")?))),
            "bputs" => {
                let at = VirtAddr(self.int_field("str")?.cast_unsigned());
                Some(format!("{}: {}", self.symbol_field("ip")?, line(&self.world.string(at)?)))
            }
            "bprint" => Some(format!("{}: {}", self.symbol_field("ip")?, self.binary_text()?)),
            "kernel_stack" => Some(self.stack()?),
            _ => None,
        }
    }

    fn indent(&self) -> Option<String> {
        const DEEPEST: i64 = 64;
        Some("  ".repeat(self.int_field("depth")?.clamp(0, DEEPEST) as usize))
    }

    /// The functions on a stack, each on a line.
    fn stack(&self) -> Option<String> {
        let count = usize::try_from(self.int_field("size")?).ok()?;
        let start = self.format.fields.iter().find(|field| field.name == "caller")?.offset;
        let callers = self.bytes.get(start as usize..)?.chunks_exact(8).take(count);
        let mut text = "<stack trace>".to_owned();
        for at in callers.filter_map(|bytes| Endian::Little.u64(bytes, 0)) {
            let _ = write!(text, "\n => {}", self.world.symbol(VirtAddr(at), false));
        }
        Some(text)
    }

    /// `trace_printk`: the address of a format, and its values as `vbin_printf` packs them.
    fn binary_text(&self) -> Option<String> {
        let at = VirtAddr(self.int_field("fmt")?.cast_unsigned());
        let format = self.world.string(at)?;
        let mut values = ByteReader::new(self.bytes_field("buf")?, Endian::Little);
        let text = printf::format(self.world, &String::from_utf8_lossy(&format), |spec| {
            let is_text = spec.conversion == 's' || spec.conversion == 'p' && !spec.extension.is_empty();
            if is_text {
                let rest = self.bytes_field("buf")?.get(values.position()..)?;
                let text = kdive_base::bytes::until_nul(rest).to_vec();
                values.skip(text.len().saturating_add(1))?;
                return Some(Value::Bytes(text));
            }
            match spec.bytes {
                1 => Some(Value::Int(values.u8()?.into())),
                2 => {
                    values.align(2)?;
                    Some(Value::Int(values.u16()?.into()))
                }
                8 => {
                    values.align(4)?;
                    Some(Value::Int(values.u64()?.cast_signed()))
                }
                _ => {
                    values.align(4)?;
                    Some(Value::Int(values.i32()?.into()))
                }
            }
        })?;
        Some(printf::one_line(&text))
    }

    /// A call of the system: `sys_openat(dfd: 0x3, flags: 0x0)` and `sys_openat -> 0x3`.
    fn of_syscall(&self) -> Option<String> {
        let name = &self.format.name;
        let Some(call) = name.strip_prefix("sys_enter_") else {
            let value = self.int_field("ret")?;
            return Some(format!("sys_{} -> {value:#x}", name.strip_prefix("sys_exit_")?));
        };
        let fields = self.fields();
        let arguments = fields.iter().filter(|(name, _)| !name.starts_with("__")).map(|(name, value)| {
            let mut text = match value {
                FieldShown::Int(value) => format!("{name}: {value:#x}"),
                FieldShown::Text(text) | FieldShown::Bytes(text) => format!("{name}: {text}"),
            };
            // The string that an argument points to (6.19).
            let string = format!("__{name}_val");
            if let Some((_, FieldShown::Text(string))) = fields.iter().find(|field| field.0 == string) {
                let _ = write!(text, " \"{string}\"");
            }
            text
        });
        let list = arguments.collect::<Vec<_>>().join(", ");
        Some(format!("sys_{call}({list})"))
    }
}

/// A line that someone wrote, without its end.
fn line(bytes: &[u8]) -> String {
    kdive_base::printable(kdive_base::bytes::until_nul(bytes).trim_ascii_end())
}

impl PrintFmt {
    /// Probes show addresses of code: as functions. One at a function's return begins with where it returned to, as in
    /// the kernel's own listing (`print_kretprobe_event`).
    fn of_probe(mut self) -> Self {
        if let Some(rest) = self.text.strip_prefix("(%lx)") {
            self.text = format!("(%pS){rest}");
        } else if let Some(rest) = self.text.strip_prefix("(%lx <- %lx)") {
            self.text = format!("(%pS <- %ps){rest}");
            if self.arguments.len() >= 2 {
                self.arguments.swap(0, 1);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::EventField;
    use super::super::printf::tests::Small;
    use super::*;

    #[test]
    fn contexts_have_the_kernels_letters() {
        let new = Contexts { has_bh_off: true, has_lazy: true };
        assert_eq!(new.letters(0, 0), ".....");
        assert_eq!(new.letters(1 | 4 | 0x20 | 8, 0x12), "dNh21");
        assert_eq!(new.letters(0x80 | 0x10 | 2, 0), "bls..");
        let old = Contexts { has_bh_off: false, has_lazy: false };
        assert_eq!(old.letters(2 | 0x40 | 8, 1), "X.Z1");
    }

    fn shown(name: &str, fields: &[(&str, &str, u32, u32)], bytes: &[u8]) -> String {
        let field = |&(name, kind, offset, size): &(&str, &str, u32, u32)| EventField {
            name: name.into(),
            kind: kind.into(),
            offset,
            size,
            signed: false,
        };
        let format = EventFormat {
            system: "ftrace".into(),
            name: name.into(),
            fields: fields.iter().map(field).collect(),
            ..EventFormat::default()
        };
        Record { world: &Small, format: &format, bytes }.shown()
    }

    #[test]
    fn tracers_show_functions() {
        let mut bytes = vec![0; 8];
        bytes.extend(5_u64.to_le_bytes());
        bytes.extend(6_u64.to_le_bytes());
        let fields = [("ip", "unsigned long", 8, 8), ("parent_ip", "unsigned long", 16, 8)];
        assert_eq!(shown("function", &fields, &bytes), "f <-f");
        assert_eq!(shown("odd", &fields, &bytes), "ip=5 parent_ip=6");
        assert_eq!(shown("function", &fields, &bytes[..12]), "", "an entry that is cut off");
        let fields = [("size", "int", 8, 4), ("caller", "unsigned long[8]", 16, 64)];
        assert_eq!(
            shown("kernel_stack", &fields, &[&[0; 8][..], &1_u64.to_le_bytes(), &[9; 16]].concat()),
            "<stack trace>\n => f"
        );
    }

    #[test]
    fn a_call_of_the_system_shows_its_strings() {
        let field = |name: &str, kind: &str, offset, size| EventField {
            name: name.into(),
            kind: kind.into(),
            offset,
            size,
            signed: false,
        };
        let fields = vec![
            field("__syscall_nr", "int", 8, 4),
            field("name", "const char *", 16, 8),
            field("flags", "int", 24, 4),
            field("__name_val", "__data_loc char[]", 28, 4),
        ];
        let format = EventFormat {
            system: "syscalls".into(),
            name: "sys_enter_openat".into(),
            fields,
            ..EventFormat::default()
        };
        let mut bytes = vec![0; 32];
        (bytes[16], bytes[24], bytes[28], bytes[30]) = (0x10, 2, 32, 5);
        bytes.extend(b"/tmp\0");
        let record = Record { world: &Small, format: &format, bytes: &bytes };
        assert_eq!(record.shown(), "sys_openat(name: 0x10 \"/tmp\", flags: 0x2)");
    }

    #[test]
    fn packed_values_are_unpacked() {
        struct Format;
        impl printf::World for Format {
            fn string(&self, _: VirtAddr) -> Option<Vec<u8>> {
                Some(b"%d %s %llx %c\n".to_vec())
            }
            fn symbol(&self, _: VirtAddr, _: bool) -> String {
                "f".into()
            }
            fn enumerator(&self, _: &str) -> Option<i64> {
                None
            }
        }
        let field = |name: &str, offset, size, kind: &str| EventField {
            name: name.into(),
            kind: kind.into(),
            offset,
            size,
            signed: false,
        };
        let fields = vec![
            field("ip", 8, 8, "unsigned long"),
            field("fmt", 16, 8, "const char *"),
            field("buf", 24, 0, "u32[]"),
        ];
        let format =
            EventFormat { system: "ftrace".into(), name: "bprint".into(), fields, ..EventFormat::default() };
        let mut bytes = vec![0; 24];
        bytes.extend((-3_i32).to_le_bytes());
        bytes.extend(b"hey\0");
        bytes.extend(0xabc_u64.to_le_bytes());
        bytes.extend(65_u32.to_le_bytes());
        let record = Record { world: &Format, format: &format, bytes: &bytes };
        assert_eq!(record.shown(), "f: -3 hey abc A");
    }
}
