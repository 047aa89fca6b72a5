//! The open files of one task.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::fs::{
    AddressSpace, Dentry, Descriptor, Descriptors, File, FileKind, FsStruct, Inode, descriptors,
};
use kdive_linux::path;
use kdive_linux::tasks::Task;
use kdive_target::{Field, Lacks, Loader};
use serde::Serialize;

use crate::cx::Cx;
use crate::render::{Known, TaskLine, UNKNOWN, place};
use crate::sink::Render;

/// A task, its root and its working directory.
#[derive(Debug, Serialize)]
pub(crate) struct Header {
    #[serde(flatten)]
    task: TaskLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cwd: Option<String>,
    /// It has no directories any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    exited: bool,
    #[serde(skip)]
    pub(crate) root_inode: Option<VirtAddr>,
    #[serde(skip)]
    pub(crate) cwd_inode: Option<VirtAddr>,
    /// The dentries of both.
    #[serde(skip)]
    dentries: Vec<VirtAddr>,
}

impl Header {
    fn unknown(task: TaskLine) -> Self {
        let (root_inode, cwd_inode, dentries) = (None, None, Vec::new());
        Self { task, root: None, cwd: None, exited: false, root_inode, cwd_inode, dentries }
    }
}

impl Render for Header {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (root, cwd) = (Known(self.root.as_deref()), Known(self.cwd.as_deref()));
        writeln!(out, "{}", self.task)?;
        if self.exited { Ok(()) } else { writeln!(out, "ROOT: {root}    CWD: {cwd}") }
    }
}

/// An open file.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    fd: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dentry: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inode: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<VirtAddr>,
    /// Pages in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<FileKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Whether the name is gone, and the file stays until it is closed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

/// Which columns are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    Files,
    Pages,
}

impl Columns {
    pub(super) fn titles(self) -> &'static str {
        match self {
            Self::Files => " FD       FILE            DENTRY           INODE       TYPE PATH\n",
            Self::Pages => " FD      INODE          I_MAPPING     NRPAGES TYPE PATH\n",
        }
    }
}

impl Render for Row {
    type View = Columns;

    fn render(&self, columns: &Columns, out: &mut dyn fmt::Write) -> fmt::Result {
        let address = |at: Option<VirtAddr>| at.map_or(format!("{UNKNOWN:^16}"), |at| at.to_string());
        write!(out, "{:>3} ", self.fd)?;
        match columns {
            Columns::Files => {
                let (file, dentry) = (address(self.file), address(self.dentry));
                write!(out, "{file} {dentry} {} ", address(self.inode))?;
            }
            Columns::Pages => {
                let (inode, mapping) = (address(self.inode), address(self.mapping));
                write!(out, "{inode} {mapping} {:>7} ", Known(self.pages))?;
            }
        }
        let gone = if self.deleted { " (deleted)" } else { "" };
        writeln!(out, "{:<4} {}{gone}", Known(self.kind), Known(self.path.as_deref()))
    }
}

/// What a task has open.
pub(crate) struct OpenFiles {
    pub(crate) header: Header,
    pub(crate) rows: Vec<Row>,
    /// Whether there is no more than that.
    pub(super) complete: bool,
}

/// What `-R` looks for.
#[derive(Debug)]
pub(crate) struct Reference {
    text: String,
    /// As a descriptor, in either radix.
    descriptors: [Option<u32>; 2],
    address: Option<VirtAddr>,
}

impl Reference {
    pub(crate) fn parse(word: &str) -> Self {
        let digits = word.strip_prefix("0x");
        let hexadecimal = u64::from_str_radix(digits.unwrap_or(word), 16).ok();
        let as_hex = hexadecimal.and_then(|number| u32::try_from(number).ok());
        // A number is decimal if it can be.
        let descriptors = match word.parse().ok() {
            Some(decimal) => [Some(decimal), None],
            None => [None, as_hex],
        };
        Self { text: word.to_owned(), descriptors, address: hexadecimal.map(VirtAddr) }
    }

    /// A part of a path; the root is in every path, and is meant alone. Numbers in names that are no paths
    /// (`pipe:[1456]`) are not meant.
    fn names(&self, path: Option<&String>) -> bool {
        let is_number = self.address.is_some();
        path.is_some_and(|path| match path.starts_with('/') {
            true if self.text == "/" => path == "/",
            false if is_number => false,
            _ => path.contains(&self.text),
        })
    }

    fn is_at(&self, at: Option<VirtAddr>) -> bool {
        at.is_some() && at == self.address
    }

    fn holds(&self, row: &Row) -> bool {
        let addresses = [row.file, row.dentry, row.inode, row.mapping];
        self.descriptors.contains(&Some(row.fd))
            || addresses.into_iter().any(|at| self.is_at(at))
            || self.names(row.path.as_ref())
    }
}

impl OpenFiles {
    /// What of it refers to something, if anything does.
    pub(crate) fn referring(mut self, reference: &Reference) -> Option<Self> {
        self.rows.retain(|row| reference.holds(row));
        let header = &self.header;
        let in_header = [&header.root, &header.cwd].into_iter().any(|path| reference.names(path.as_ref()))
            || header.dentries.iter().any(|at| reference.is_at(Some(*at)))
            || [header.root_inode, header.cwd_inode].into_iter().any(|at| reference.is_at(at));
        (in_header || !self.rows.is_empty()).then_some(self)
    }
}

/// What a task has open. What lacks is noted as a gap.
pub(crate) fn open_files(cx: &mut Cx, task: &Task, columns: Columns) -> OpenFiles {
    let header = header(cx, task);
    let kernel = cx.kernel.clone();
    let (table, complete) = table(cx, task);
    let opener = Opener {
        columns,
        files: kernel.loader(),
        dentries: kernel.loader(),
        inodes: kernel.loader(),
        spaces: kernel.loader(),
    };
    let rows = table.open.iter().map(|open| opener.row(cx, open, || place(task))).collect();
    OpenFiles { header, rows, complete }
}

/// The descriptors that a task has open, and whether there are no more.
pub(crate) fn table(cx: &mut Cx, task: &Task) -> (Descriptors, bool) {
    let kernel = cx.kernel.clone();
    let table = task.files.clone().and_then(|files| match files.is_null() {
        // It has exited.
        true => Ok(Descriptors::default()),
        false => descriptors(&kernel, files),
    });
    let table = cx.known(table, "open files of a task", || place(task));
    let complete = table.as_ref().is_some_and(|table| table.incomplete.is_none());
    let table = table.unwrap_or_default();
    if let Some(lacks) = &table.incomplete {
        cx.lacks(lacks, "open files of a task", || place(task));
    }
    (table, complete)
}

fn header(cx: &mut Cx, task: &Task) -> Header {
    let kernel = cx.kernel.clone();
    let line = TaskLine::new(cx, task);
    let fs = cx.known(task.fs.clone(), "directories of a task", || place(task));
    let exited = fs.is_some_and(VirtAddr::is_null);
    let Some(fs) = fs.filter(|fs| !fs.is_null()) else {
        return Header { exited, ..Header::unknown(line) };
    };
    let fs: FsStruct = kernel.load(fs);
    let mut directory = |what, mount: Field<VirtAddr>, dentry: &Field<VirtAddr>| {
        let found = mount.and_then(|mount| path::of_dentry(&kernel, mount, dentry.clone()?));
        cx.known(found, what, || place(task))
    };
    let root = directory("ROOT", fs.root_mount, &fs.root);
    let cwd = directory("CWD", fs.cwd_mount, &fs.cwd);
    let inode = |dentry: &Field<VirtAddr>| kernel.load::<Dentry>(dentry.clone().ok()?).inode.ok();
    let (root_inode, cwd_inode) = (inode(&fs.root), inode(&fs.cwd));
    let dentries = [fs.root, fs.cwd].into_iter().flatten().collect();
    Header { root, cwd, root_inode, cwd_inode, dentries, ..Header::unknown(line) }
}

/// Makes rows of descriptors.
struct Opener<'k> {
    columns: Columns,
    files: Loader<'k, File>,
    dentries: Loader<'k, Dentry>,
    inodes: Loader<'k, Inode>,
    spaces: Loader<'k, AddressSpace>,
}

impl Opener<'_> {
    fn row(&self, cx: &mut Cx, open: &Descriptor, task: impl Fn() -> String) -> Row {
        let mut lacking: Vec<(&str, Lacks)> = Vec::new();
        let Descriptor { fd, file } = open;
        let mut row = Row {
            fd: *fd,
            file: known(&mut lacking, "FILE", file.clone()),
            dentry: None,
            inode: None,
            mapping: None,
            pages: None,
            kind: None,
            path: None,
            deleted: false,
        };
        if let Some(file) = row.file {
            self.fill(cx, &mut row, &self.files.load(file), &mut lacking);
        }
        if !lacking.is_empty() {
            cx.lacks_together(&lacking, || format!("FD {fd} of {}", task()));
        }
        row
    }

    fn fill(&self, cx: &Cx, row: &mut Row, file: &File, lacking: &mut Vec<(&'static str, Lacks)>) {
        let kernel = &*cx.kernel;
        row.dentry = known(lacking, "DENTRY", file.dentry.clone());
        let by_name = || kernel.load::<Dentry>(file.dentry.clone()?).inode;
        row.inode = known(lacking, "INODE", file.inode.clone().or_else(|_| by_name()));
        if let Some(inode) = row.inode {
            let inode = self.inodes.load(inode);
            row.kind = known(lacking, "TYPE", inode.kind());
            if self.columns == Columns::Pages {
                row.mapping = known(lacking, "I_MAPPING", inode.mapping);
                let pages = row.mapping.map(|mapping| self.spaces.load(mapping).pages);
                row.pages = pages.and_then(|pages| known(lacking, "NRPAGES", pages));
            }
        }
        if let (Ok(mount), Some(dentry)) = (&file.mount, row.dentry) {
            row.path = known(lacking, "PATH", path::of_dentry(kernel, *mount, dentry));
            row.deleted = self.dentries.load(dentry).is_deleted().unwrap_or(false);
        }
    }
}

fn known<T>(lacking: &mut Vec<(&'static str, Lacks)>, what: &'static str, field: Field<T>) -> Option<T> {
    field.map_err(|lacks| lacking.push((what, lacks))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            fd: 3,
            file: Some(VirtAddr(0xff27_0289_019d_7f00)),
            dentry: Some(VirtAddr(0xff27_0289_0151_fd80)),
            inode: Some(VirtAddr(0xff27_0289_0148_e780)),
            mapping: None,
            pages: Some(2048),
            kind: Some(FileKind::Regular),
            path: Some("/data/blob".into()),
            deleted: false,
        }
    }

    fn text(row: &Row, columns: Columns) -> String {
        let mut text = columns.titles().to_owned();
        row.render(&columns, &mut text).unwrap();
        text
    }

    #[test]
    fn lines_are_crashs_and_stay_in_place() {
        assert_eq!(
            text(&row(), Columns::Files),
            " FD       FILE            DENTRY           INODE       TYPE PATH\n\
             \x20 3 ff270289019d7f00 ff2702890151fd80 ff2702890148e780 REG  /data/blob\n"
        );
        assert_eq!(
            text(&row(), Columns::Pages),
            " FD      INODE          I_MAPPING     NRPAGES TYPE PATH\n\
             \x20 3 ff2702890148e780        ?            2048 REG  /data/blob\n"
        );
    }

    #[test]
    fn a_file_whose_name_is_gone_says_so() {
        let shown = text(&Row { deleted: true, ..row() }, Columns::Files);
        assert!(shown.ends_with("REG  /data/blob (deleted)\n"), "{shown}");
    }

    #[test]
    fn references_are_numbers_addresses_and_parts_of_paths() {
        let holds = |word: &str| Reference::parse(word).holds(&row());
        assert!(holds("3") && holds("0x3") && holds("blob") && holds("/data/blob"));
        assert!(holds("ff2702890148e780") && holds("0xff270289019d7f00"));
        assert!(!holds("13") && !holds("/") && !holds("blobs") && !holds("ff270289019d7f08"));
        let ten = Row { fd: 10, path: None, ..row() };
        assert!(Reference::parse("10").holds(&ten) && Reference::parse("a").holds(&ten));
        assert!(!Reference::parse("10").holds(&Row { fd: 16, path: None, ..row() }));
        let pipe = || Row { path: Some("pipe:[1456]".into()), ..row() };
        assert!(Reference::parse("pipe:[1456]").holds(&pipe()) && !Reference::parse("14").holds(&pipe()));
    }
}
