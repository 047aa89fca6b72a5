//! `info`: what the dump is, what was found in it, what is missing and why.

use std::fmt::{self, Write as _};

use kdive_base::{Cancel, Cancelled, PhysAddr, VirtAddr, printable};
use kdive_dump::{Encryption, Facts, Manifest, RedactedFacts, RunTotals};
use kdive_linux::system::Uts;
use kdive_linux::tasks::Tasks;
use kdive_target::{Kernel, Lacks, SymbolsSource, TypesSource, VmcoreinfoSource};
use serde::Serialize;

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{UNKNOWN, date, size};
use crate::sink::{Render, Sink, SinkExt};

/// Tells what the dump is and what can be had from it.
pub(crate) static INFO: Command = Command {
    names: &["info"],
    group: Group::System,
    summary: "what the dump is, what is in it, what is missing and why",
    operands: crate::gdb_info::OPERANDS,
    options: &[],
    help: include_str!("info.md"),
    run: Run::Once(info),
};

fn info(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if !args.operands.is_empty() {
        return crate::gdb_info::run(cx, &args.operands, out);
    }
    let kernel = cx.kernel.clone();
    let mut lacking = Vec::new();
    let container = Container::of(&kernel, &cx.cancel)?;
    out.header(&Info { container, kernel: KernelInfo::of(&kernel, &mut lacking) }, &())?;
    if !lacking.is_empty() {
        out.heading("\nMISSING\n")?;
    }
    for missing in &lacking {
        out.row(missing, &())?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Info {
    container: Container,
    kernel: KernelInfo,
}

/// The dump as a file.
#[derive(Debug, Serialize)]
struct Container {
    #[serde(flatten)]
    facts: Facts,
    /// Bytes of physical memory by state.
    memory: RunTotals,
    /// Processors whose registers the capture saved.
    saved_cpus: usize,
    /// Memory of devices that drivers added.
    device_dumps: Vec<String>,
}

impl Container {
    fn of(kernel: &Kernel, cancel: &Cancel) -> Result<Self, Cancelled> {
        let notes = kernel.notes();
        Ok(Self {
            facts: kernel.facts().clone(),
            memory: kernel.physical().totals(cancel)?,
            saved_cpus: notes.cpus.len(),
            device_dumps: notes.device_dumps.iter().map(|dump| dump.name.clone()).collect(),
        })
    }
}

/// What was found of the kernel.
#[derive(Debug, Serialize)]
struct KernelInfo {
    uts: Uts,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vmlinux: Option<String>,
    vmcoreinfo: VmcoreinfoSource,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    crash_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phys_base: Option<PhysAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kaslr: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_tables: Option<PageTables>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbols: Option<SymbolsInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<TypesSource>,
    /// Whether lines and inlined functions of the kernel can be told.
    lines: bool,
    modules: ModulesInfo,
    tasks: usize,
}

#[derive(Debug, Serialize)]
struct PageTables {
    format: &'static str,
    root: PhysAddr,
}

#[derive(Debug, Serialize)]
struct SymbolsInfo {
    source: SymbolsSource,
    count: usize,
}

#[derive(Debug, Serialize)]
struct ModulesInfo {
    count: usize,
    with_symbols: usize,
    with_types: usize,
}

/// Something that the dump or the kernel does not give.
#[derive(Debug, Serialize)]
struct Missing {
    what: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

/// Keeps a value, or notes what is missing and what to give.
fn known<T>(
    found: Result<T, Lacks>,
    what: &'static str,
    hint: &'static str,
    lacking: &mut Vec<Missing>,
) -> Option<T> {
    let hint = Some(hint).filter(|hint| !hint.is_empty());
    found.map_err(|lacks| lacking.push(Missing { what, why: lacks.to_string(), hint })).ok()
}

impl KernelInfo {
    fn of(kernel: &Kernel, lacking: &mut Vec<Missing>) -> Self {
        let vmcoreinfo = kernel.vmcoreinfo();
        let (uts, uts_lacks) = Uts::find(kernel);
        known(uts_lacks.map_or(Ok(()), Err), "uname", "", lacking);
        let phys_base = known(kernel.phys_base().clone(), "phys_base", "", lacking);
        known(kernel.paging().clone(), "page tables", "", lacking);
        let symbols = known(symbols(kernel), "symbols", "give the vmlinux or a System.map", lacking);
        let types = known(kernel.types_source(), "types", "give the vmlinux", lacking);
        let lines = known(lines(kernel), "lines", "", lacking).is_some();
        let table = kernel.space().page_table().filter(|_| kernel.paging().is_ok());
        let tasks = Tasks::find(kernel);
        if let Some(lacks) = tasks.incomplete.first() {
            known::<()>(Err(lacks.clone()), "some tasks", "", lacking);
        }
        Self {
            uts,
            build_id: vmcoreinfo.build_id().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()),
            vmlinux: kernel.options().debuginfo.vmlinux.as_ref().map(|file| file.name.clone()),
            vmcoreinfo: kernel.vmcoreinfo_source(),
            crash_time: vmcoreinfo.crash_time(),
            phys_base: phys_base.map(PhysAddr),
            kaslr: vmcoreinfo.kaslr_offset().map(VirtAddr),
            page_tables: table.map(|table| PageTables { format: table.format().name, root: table.root() }),
            symbols,
            types,
            lines,
            modules: ModulesInfo::of(kernel, lacking),
            tasks: tasks.all().len(),
        }
    }
}

fn symbols(kernel: &Kernel) -> Result<SymbolsInfo, Lacks> {
    Ok(SymbolsInfo { source: kernel.symbols_source()?, count: kernel.symbol_table()?.len() })
}

#[cfg(feature = "dwarf")]
fn lines(kernel: &Kernel) -> Result<(), Lacks> {
    kernel.kernel_dwarf().map(drop)
}

#[cfg(not(feature = "dwarf"))]
fn lines(_kernel: &Kernel) -> Result<(), Lacks> {
    Err(Lacks::unavailable("this kdive was built without its DWARF reader"))
}

impl ModulesInfo {
    fn of(kernel: &Kernel, lacking: &mut Vec<Missing>) -> Self {
        let modules = kernel.modules();
        if let Some(lacks) = &modules.incomplete {
            known::<()>(Err(lacks.clone()), "some modules", "", lacking);
        }
        let with_symbols = |name: &str| {
            let table = kernel.symbols().ok().and_then(|symbols| symbols.module(name));
            table.is_some_and(|module| !module.table.is_empty())
        };
        // One reason often holds for many modules: the first stands for all.
        if let Some(lacks) = kernel.module_types_lacking().ok().and_then(|all| all.first()) {
            known::<()>(Err(lacks.clone()), "types of some modules", "", lacking);
        }
        let with_types = kernel.all_types().map_or(0, |types| types.modules().count());
        Self {
            count: modules.iter().count(),
            with_symbols: modules.iter().filter(|module| with_symbols(&module.name)).count(),
            with_types,
        }
    }
}

/// One labelled line.
fn line(out: &mut dyn fmt::Write, label: &str, text: impl fmt::Display) -> fmt::Result {
    writeln!(out, "{label:>14}: {text}")
}

impl Render for Info {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "DUMP")?;
        self.container.render(&(), out)?;
        writeln!(out, "\nKERNEL")?;
        self.kernel.render(&(), out)
    }
}

impl Render for Container {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Facts { files, incomplete, excluded_vmemmap, parts, warnings, timestamp, .. } = &self.facts;
        line(out, "FILE", files.join(" "))?;
        line(out, "FORMAT", format_of(&self.facts))?;
        if let Some(Encryption { recipients }) = self.facts.encryption {
            let plural = if recipients == 1 { "" } else { "s" };
            line(out, "ENCRYPTED", format_args!("with age, for {recipients} recipient{plural}"))?;
        }
        if let Some(manifest) = &self.facts.manifest {
            line(out, "MANIFEST", written_by(manifest))?;
        }
        for RedactedFacts { kind, ranges, bytes } in &self.facts.redacted {
            let (kind, places) = (printable(kind.as_bytes()), if *ranges == 1 { "place" } else { "places" });
            line(out, "REDACTED", format_args!("{kind}: {bytes} bytes in {ranges} {places}"))?;
        }
        if let Some(level) = self.facts.dump_level {
            line(out, "DUMP LEVEL", format_args!("{level} ({})", left_out(level)))?;
        }
        if let Some(date) = timestamp.and_then(|seconds| date(seconds.saturating_mul(1_000_000_000))) {
            line(out, "CAPTURED", date)?;
        }
        line(out, "MEMORY", memory(&self.memory))?;
        if !parts.is_empty() {
            let missing = parts.iter().filter(|part| part.name.is_none()).count();
            line(out, "PARTS", format_args!("{}, {missing} of them not given", parts.len()))?;
        }
        line(out, "REGISTERS", format_args!("of {} CPUs", self.saved_cpus))?;
        if !self.device_dumps.is_empty() {
            line(out, "DEVICE DUMPS", self.device_dumps.join(" "))?;
        }
        if *incomplete {
            line(out, "INCOMPLETE", "the capture ran out of space")?;
        }
        if *excluded_vmemmap {
            line(out, "INCOMPLETE", "parts of the memory map were left out (makedumpfile -e)")?;
        }
        warnings.iter().try_for_each(|warning| line(out, "WARNING", warning))
    }
}

/// `kdive 0.1.0 on 2026-11-22 03:00:00 UTC, of host db1`
fn written_by(manifest: &Manifest) -> String {
    let mut text = printable(manifest.tool.as_bytes());
    if let Some(date) = date(manifest.written.saturating_mul(1_000_000_000)) {
        let _ = write!(text, " on {date}");
    }
    if !manifest.host.is_empty() {
        let _ = write!(text, ", of host {}", printable(manifest.host.as_bytes()));
    }
    text
}

/// `kdump-compressed version 6, zlib, inside flattened`
fn format_of(facts: &Facts) -> String {
    let mut text = facts.format.to_owned();
    if let Some(version) = facts.version {
        let _ = write!(text, " version {version}");
    }
    for compression in &facts.compression {
        let _ = write!(text, ", {compression}");
    }
    for wrapper in &facts.wrappers {
        let _ = write!(text, ", inside {wrapper}");
    }
    text
}

/// The bits of makedumpfile's dump level (makedumpfile(8)).
fn left_out(level: u32) -> String {
    const BITS: [&str; 5] = ["zero pages", "cache", "private cache", "user pages", "free pages"];
    let named = BITS.iter().enumerate().filter(|(bit, _)| level >> bit & 1 == 1).map(|(_, name)| *name);
    let names: Vec<&str> = named.collect();
    if names.is_empty() { "nothing left out".into() } else { format!("without {}", names.join(", ")) }
}

fn memory(totals: &RunTotals) -> String {
    let mut text = format!("{} in the dump", size(totals.present));
    for (why, bytes) in &totals.missing {
        let _ = write!(text, ", {} {why}", size(*bytes));
    }
    text
}

impl Render for KernelInfo {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        line(out, "RELEASE", or_unknown(&self.uts.release))?;
        line(out, "VERSION", or_unknown(&self.uts.version))?;
        if let Some(id) = &self.build_id {
            line(out, "BUILD ID", id)?;
        }
        line(out, "VMLINUX", self.vmlinux.as_deref().unwrap_or("none given"))?;
        line(out, "VMCOREINFO", vmcoreinfo(self.vmcoreinfo))?;
        if let Some(date) = self.crash_time.and_then(|seconds| date(seconds.saturating_mul(1_000_000_000))) {
            line(out, "CRASHED", date)?;
        }
        if let Some(base) = self.phys_base {
            line(out, "PHYS BASE", format_args!("{base:#}"))?;
        }
        if let Some(offset) = self.kaslr {
            line(out, "KASLR OFFSET", format_args!("{offset:#}"))?;
        }
        if let Some(PageTables { format, root }) = &self.page_tables {
            line(out, "PAGE TABLES", format_args!("{format}, root at physical {root:#}"))?;
        }
        if let Some(SymbolsInfo { source, count }) = &self.symbols {
            line(out, "SYMBOLS", format_args!("{count}, from {}", symbols_source(*source)))?;
        }
        if let Some(source) = self.types {
            line(out, "TYPES", format_args!("from {}", types_source(source)))?;
        }
        line(out, "LINES", if self.lines { "from DWARF" } else { "none" })?;
        let ModulesInfo { count, with_symbols, with_types } = self.modules;
        line(out, "MODULES", format_args!("{count}, {with_symbols} with symbols, {with_types} with types"))?;
        line(out, "TASKS", self.tasks)
    }
}

impl Render for Missing {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match self.hint {
            Some(hint) => writeln!(out, "  {}: {}; {hint}", self.what, self.why),
            None => writeln!(out, "  {}: {}", self.what, self.why),
        }
    }
}

fn vmcoreinfo(source: VmcoreinfoSource) -> &'static str {
    match source {
        VmcoreinfoSource::Given => "given",
        VmcoreinfoSource::Note => "in the dump's notes",
        VmcoreinfoSource::Scan => "found in physical memory",
        VmcoreinfoSource::Absent => "none",
    }
}

fn symbols_source(source: SymbolsSource) -> &'static str {
    match source {
        SymbolsSource::Kallsyms => "kallsyms in the dump",
        SymbolsSource::KallsymsScan => "kallsyms in the dump, found by its signature",
        SymbolsSource::Vmlinux => "the vmlinux",
        SymbolsSource::SystemMap => "the System.map",
    }
}

fn types_source(source: TypesSource) -> &'static str {
    match source {
        TypesSource::DumpBtf => "BTF in the dump",
        TypesSource::VmlinuxBtf => "BTF of the vmlinux",
        TypesSource::Dwarf => "DWARF of the vmlinux",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_level_says_what_was_left_out() {
        assert_eq!(left_out(0), "nothing left out");
        assert_eq!(left_out(17), "without zero pages, free pages");
        assert_eq!(left_out(31), "without zero pages, cache, private cache, user pages, free pages");
    }

    #[test]
    fn formats_read_as_words() {
        let facts = Facts {
            format: "kdump-compressed",
            version: Some(6),
            compression: vec!["zlib"],
            wrappers: vec!["flattened"],
            ..Facts::default()
        };
        assert_eq!(format_of(&facts), "kdump-compressed version 6, zlib, inside flattened");
    }
}
