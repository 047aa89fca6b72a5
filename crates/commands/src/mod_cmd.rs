//! `mod`: the modules, what tainted the kernel through them, and where their debuginfo is.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::system::Taint;
use kdive_target::os::Module;
use kdive_target::{Kernel, Lacks, Want};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// Lists modules.
pub static MOD: Command = Command {
    names: &["mod"],
    group: Group::Symbols,
    summary: "modules: where they lie, their taints, their debuginfo",
    operands: "[module]...",
    options: &[
        Opt::flag("-t", "the modules that tainted the kernel, with the letters of their taints"),
        Opt::flag("-s", "find and load the debuginfo of the modules named"),
        Opt::flag("-S", "find and load the debuginfo of all modules"),
        Opt::flag("-d", "accepted for crash's sake: what was loaded stays"),
        Opt::flag("-D", "the same for all modules"),
    ],
    help: include_str!("mod_cmd.md"),
    run: Run::Once(modules),
};

/// A module in the list.
#[derive(Debug, Serialize)]
struct Row {
    module: VirtAddr,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_base: Option<VirtAddr>,
    /// Bytes that stay after its start.
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<String>,
    /// File of its debuginfo, where one was looked for and found.
    #[serde(skip_serializing_if = "Option::is_none")]
    object_file: Option<String>,
    /// Whether the module's own symbol table is in the dump.
    symbols: bool,
}

/// Widths of the columns that adapt.
struct Widths {
    name: usize,
    size: usize,
    /// How the kernel's version of crash's readers call the start of the code.
    base: &'static str,
}

impl Render for Row {
    type View = Widths;
    fn render(&self, widths: &Widths, out: &mut dyn fmt::Write) -> fmt::Result {
        let Widths { name, size, .. } = *widths;
        let base = Known(self.text_base);
        write!(out, "{}  {:<name$}  {base:>16}  {:>size$}  ", self.module, self.name, self.size)?;
        match (&self.object_file, self.symbols) {
            (Some(file), _) => writeln!(out, "{file} "),
            // crash's words for a module whose symbols come from the kernel's own table.
            (None, true) => writeln!(out, "(not loaded)  [CONFIG_KALLSYMS]"),
            (None, false) => writeln!(out, "(not loaded)"),
        }
    }
}

fn modules(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let chosen = choose(&kernel, "mod", &args.operands)?;
    if let Err(lacks) = kernel.symbols() {
        cx.lacks(&lacks, "symbols", String::new);
    }
    for (what, lacks, module) in kernel.modules().lacking(false) {
        cx.lacks(lacks, what, || module.unwrap_or("modules").to_owned());
    }
    if args.has("-t") {
        return taints(cx, &chosen, out);
    }
    let load = args.has("-S") || args.has("-s");
    if args.has("-s") && args.operands.is_empty() {
        return Err(crate::args::UsageError::new("mod", "-s needs the names of modules; -S loads all").into());
    }
    let mut rows = Vec::with_capacity(chosen.len());
    for (done, module) in chosen.iter().enumerate() {
        cx.cancel.check()?;
        let object_file = if load { object_file(cx, module) } else { None };
        rows.push(row(&kernel, module, object_file));
        cx.progress.step("modules", done as u64, Some(chosen.len() as u64));
    }
    list(&rows, kernel.offset_of("module", "mem").is_ok(), out)
}

/// The modules named, or all by address: the order in which they lie in memory, as crash lists them.
pub(crate) fn choose<'k>(
    kernel: &'k Kernel,
    command: &str,
    names: &[String],
) -> Result<Vec<&'k Module>, CommandError> {
    let modules = kernel.modules();
    let find = |name: &String| {
        modules.named(name).ok_or_else(|| CommandError::NotFound {
            what: format!("{command}: there is no module {name} in this dump"),
            hint: Some("`mod` lists the modules".into()),
        })
    };
    if !names.is_empty() {
        return names.iter().map(find).collect();
    }
    let mut all: Vec<&Module> = modules.iter().collect();
    all.sort_by_key(|module| module.fields.at);
    Ok(all)
}

fn row(kernel: &Kernel, module: &Module, object_file: Option<String>) -> Row {
    let table = kernel.symbols().ok().and_then(|symbols| symbols.module(&module.name));
    let build_id = module.fields.build_id.as_ref().ok().filter(|id| id.0.iter().any(|&byte| byte != 0));
    Row {
        module: module.fields.at,
        name: module.name.to_string(),
        text_base: module.text_base(),
        size: module.core_bytes(),
        build_id: build_id.map(|id| id.0.iter().map(|byte| format!("{byte:02x}")).collect()),
        object_file,
        symbols: table.is_some_and(|module| !module.table.is_empty()),
    }
}

fn list(rows: &[Row], has_kinds: bool, out: &mut dyn Sink) -> Result<(), CommandError> {
    let widths = Widths {
        name: rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4),
        size: rows.iter().map(|row| row.size.to_string().len()).max().unwrap_or(0).max(4),
        base: if has_kinds { "TEXT_BASE" } else { "BASE" },
    };
    let Widths { name, size, base } = widths;
    out.heading(&format!(
        "{:^16}  {:<name$}  {base:^16}  {:>size$}  OBJECT FILE\n",
        "MODULE", "NAME", "SIZE"
    ))?;
    for row in rows {
        out.row(row, &widths)?;
    }
    Ok(())
}

/// Finds and opens the debuginfo of a module. What goes wrong is a gap: the other modules are still loaded.
fn object_file(cx: &mut Cx, module: &Module) -> Option<String> {
    let kernel = cx.kernel.clone();
    match load(&kernel, module) {
        Ok(path) => Some(path),
        Err(lacks) => {
            cx.lacks(&lacks, "debuginfo of a module", || module.name.to_string());
            None
        }
    }
}

fn load(kernel: &Kernel, module: &Module) -> Result<String, Lacks> {
    let build_id = module.fields.build_id.as_ref().ok().map(|id| id.0.as_slice());
    let want = Want::Module { release: kernel.vmcoreinfo().release(), name: &module.name, build_id };
    let found = kernel.artifacts().find(&want);
    let found = found.ok_or_else(|| {
        Lacks::unavailable(format_args!("no debuginfo of module {} was found", module.name))
    })?;
    #[cfg(feature = "dwarf")]
    kernel.module_dwarf(module)?.check().map_err(Lacks::unavailable)?;
    Ok(found.name)
}

/// A module that tainted the kernel.
#[derive(Debug, Serialize)]
struct TaintRow {
    name: String,
    #[serde(flatten)]
    taint: Taint,
}

impl Render for TaintRow {
    type View = usize;
    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:<width$}  {}", self.name, self.taint.letters)
    }
}

fn taints(cx: &mut Cx, chosen: &[&Module], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut rows = Vec::new();
    for module in chosen {
        let mask = cx.known(module.fields.taints.clone(), "taints of a module", || module.name.to_string());
        if let Some(mask) = mask.filter(|&mask| mask != 0) {
            rows.push(TaintRow { name: module.name.to_string(), taint: Taint::of_mask(&kernel, mask) });
        }
    }
    if rows.is_empty() {
        return Ok(out.text("no tainted modules\n")?);
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
    out.heading(&format!("{:<width$}  TAINTS\n", "NAME"))?;
    for row in &rows {
        out.row(row, &width)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::TextSink;

    #[test]
    fn columns_are_crashs() {
        let row = Row {
            module: VirtAddr(0xffff_ffff_c044_8340),
            name: "qemu_fw_cfg".into(),
            text_base: Some(VirtAddr(0xffff_ffff_c044_6000)),
            size: 20480,
            build_id: None,
            object_file: None,
            symbols: true,
        };
        let mut text = TextSink::new(Vec::new());
        list(&[row], true, &mut text).unwrap();
        let text = String::from_utf8(text.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "     MODULE       NAME            TEXT_BASE       SIZE  OBJECT FILE\n\
             ffffffffc0448340  qemu_fw_cfg  ffffffffc0446000  20480  (not loaded)  [CONFIG_KALLSYMS]\n"
        );
    }
}
