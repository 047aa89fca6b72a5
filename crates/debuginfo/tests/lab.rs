//! Checks against real kernels, which the repository does not hold: `KDIVE_VMLINUX=a:b cargo test -p kdive-debuginfo
//! --release --test lab -- --ignored --nocapture` with the paths of vmlinux files. Prints what it measures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

#[cfg(feature = "dwarf")]
#[path = "lab/dwarf.rs"]
mod dwarf;

use std::time::Instant;

use kdive_base::{Missing, VirtAddr, VirtualMemory, Why};
use kdive_debuginfo::kallsyms::{self, Expect};
use kdive_debuginfo::orc::{OrcKind, OrcTable};
use kdive_debuginfo::{Blob, Btf, ElfFile, ElfKind, SymbolTableBuilder, Tag, Types};

fn kernels() -> Vec<(String, ElfFile)> {
    let paths = std::env::var("KDIVE_VMLINUX").expect("KDIVE_VMLINUX names the vmlinux files to look at");
    let open = |path: &str| {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path.rsplit('/').next().unwrap().to_owned(), ElfFile::parse(bytes.into()).unwrap())
    };
    paths.split(':').map(open).collect()
}

/// The fastest of several runs, in time on the processor: the machine may be busy.
fn fastest<T>(what: &str, work: impl Fn() -> T) -> T {
    let mut best = f64::MAX;
    for _ in 0..10 {
        let start = on_processor();
        drop(work());
        best = best.min(on_processor() - start);
    }
    println!("  {what}: {:.2} ms (best of ten)", best * 1e3);
    work()
}

/// Seconds that this thread has run.
fn on_processor() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("  {what}: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

#[test]
#[ignore = "needs vmlinux files"]
fn btf_of_real_kernels() {
    for (name, file) in kernels() {
        println!("{name}");
        assert_eq!(file.kind(), ElfKind::Kernel);
        let blob = Blob::from(file.btf().unwrap().expect(".BTF").to_vec());
        let btf = timed("open", || Btf::parse(blob).unwrap());
        assert_eq!(btf.lost(), 0);
        println!("  {} types", btf.len());
        let types = Types::new(8).with_btf(btf);
        let task = timed("first name", || types.find(Tag::Struct, "task_struct").unwrap());
        timed("member", || types.member(task, "comm").unwrap());
        timed("first function", || types.find(Tag::Function, "schedule").unwrap());
        timed("first enumerator", || types.enumerator("PIDTYPE_PID").unwrap());
        // pahole of 5.10's time left per-CPU variables out.
        if let Ok(rq) = types.find(Tag::Variable, "runqueues") {
            assert_eq!(types.name_of(rq), "struct rq");
        }
        let mut ambiguous = vec![];
        timed("every struct", || {
            let mut names = vec![];
            types.for_each_name(Tag::Struct, |name, _| names.push(name.to_owned()));
            for name in names {
                if types.find(Tag::Struct, &name).is_err() {
                    ambiguous.push(name);
                }
            }
        });
        ambiguous.dedup();
        println!("  {} struct names with several layouts: {:.200}", ambiguous.len(), ambiguous.join(" "));
    }
}

#[test]
#[ignore = "needs vmlinux files"]
fn symbols_of_real_kernels() {
    for (name, file) in kernels() {
        println!("{name} {:02x?}", file.build_id().unwrap());
        let table = timed("symbols", || file.symbols().unwrap());
        println!("  {} symbols", table.len());
        let schedule = timed("first name", || table.by_name("schedule").next().unwrap());
        let image = table.image().unwrap();
        println!("  image {:?}", image);
        let (symbol, offset) = table.at(schedule.address.add(3), image.start).unwrap();
        assert_eq!((symbol.name, offset), ("schedule", 3));
    }
}

/// The loaded sections of a vmlinux as the memory of the kernel at the addresses where it was linked.
struct Image(Vec<(u64, Blob)>);

impl Image {
    fn of(file: &ElfFile) -> Self {
        let loaded =
            file.sections().iter().filter(|section| section.is_loaded() && section.address.0 >> 63 == 1);
        let mut sections: Vec<_> = loaded
            .filter_map(|section| Some((section.address.0, file.contents(section).unwrap()?)))
            .collect();
        sections.sort_by_key(|(start, _)| *start);
        Self(sections)
    }
}

impl VirtualMemory for Image {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        into.fill(0);
        let end = at.0.saturating_add(into.len() as u64);
        // Gaps between sections are zeros, as the loader makes them.
        for (start, bytes) in &self.0 {
            let (from, to) = ((*start).max(at.0), (start + bytes.len() as u64).min(end));
            if from < to {
                let (source, target) = ((from - start) as usize, (from - at.0) as usize);
                let length = (to - from) as usize;
                into[target..target + length].copy_from_slice(&bytes[source..source + length]);
            }
        }
        let last = self.0.last().map_or(0, |(start, bytes)| start + bytes.len() as u64);
        let first = self.0.first().map_or(0, |(start, _)| *start);
        match last.saturating_sub(at.0) {
            room if at.0 < first || room == 0 => (0, Some(Missing::new(at, Why::NotMapped { level: 2 }))),
            room if room < into.len() as u64 => {
                (room as usize, Some(Missing::new(at.add(room), Why::NotMapped { level: 2 })))
            }
            _ => (into.len(), None),
        }
    }
}

#[test]
#[ignore = "needs vmlinux files"]
fn kallsyms_of_real_kernels() {
    for (name, file) in kernels() {
        println!("{name}");
        let table = file.symbols().unwrap();
        let memory = Image::of(&file);
        let image = table.image().unwrap();
        let found = fastest("scan", || kallsyms::scan(&memory, &image, &Expect::default()).unwrap());
        println!("  {} symbols, {:?} {:?}", found.symbols.len(), found.encoding, found.at);
        let stext = table.by_name("_stext").next().unwrap().address;
        let expect = Expect { symbol: Some(("_stext", stext)), image: None };
        let found = fastest("read", || kallsyms::read(&memory, &found.at, &expect).unwrap());
        assert_eq!(found.lost, 0);
        let address = |name: &str| table.by_name(name).next().unwrap().address;
        for (name, in_kallsyms) in [
            ("num_syms", Some(found.at.num_syms)),
            ("names", Some(found.at.names)),
            ("token_table", Some(found.at.token_table)),
            ("token_index", Some(found.at.token_index)),
            ("offsets", found.at.offsets),
        ] {
            assert_eq!(Some(address(&format!("kallsyms_{name}"))), in_kallsyms, "{name}");
        }
        // Every symbol of kallsyms is one of the symbol table's, at the same address.
        let wrong: Vec<_> = found
            .symbols
            .iter()
            .filter(|symbol| !table.by_name(symbol.name).any(|other| other.address == symbol.address))
            .map(|symbol| symbol.name)
            .collect();
        println!("  not in the symbol table: {} {:.200}", wrong.len(), wrong.join(" "));
        assert!(wrong.len() < 200);
        let unlike = found.symbols.within(image.clone()).filter(|symbol| {
            table.at(symbol.address, image.start).map(|(other, _)| other.name)
                != found.symbols.at(symbol.address, image.start).map(|(other, _)| other.name)
        });
        let unlike: Vec<_> = unlike
            .map(|symbol| {
                format!("{}:{}", symbol.name, table.at(symbol.address, image.start).unwrap().0.name)
            })
            .collect();
        println!("  addresses named otherwise than by kallsyms: {} {:.300}", unlike.len(), unlike.join(" "));
    }
}

#[test]
#[ignore = "needs vmlinux files"]
fn orc_of_real_kernels() {
    for (name, file) in kernels() {
        println!("{name}");
        let symbols = file.symbols().unwrap();
        let memory = Image::of(&file);
        let types =
            Types::new(8).with_btf(Btf::parse(Blob::from(file.btf().unwrap().unwrap().to_vec())).unwrap());
        let table = timed("open", || OrcTable::of_kernel(&memory, &symbols, &types).unwrap());
        println!("  {} entries, {:?}", table.len(), table.layout());
        // Without types and header the entries alone lead to the same layout.
        let marks =
            symbols.iter().filter(|symbol| symbol.name.contains("orc") && !symbol.name.contains("header"));
        let mut bare = SymbolTableBuilder::default();
        marks.for_each(|symbol| bare.push(symbol.name.as_bytes(), symbol.address, 0, symbol.kind));
        let probed = timed("probe", || OrcTable::of_kernel(&memory, &bare.finish(), &Types::new(8)).unwrap());
        assert_eq!(probed.layout(), table.layout());
        let at = |name: &str, offset| {
            let start = symbols.by_name(name).next().unwrap().address;
            table.find(&memory, start.add(offset)).unwrap().unwrap()
        };
        println!("  schedule+0 {:?}", at("schedule", 0));
        println!("  schedule+20 {:?}", at("schedule", 20));
        println!("  asm_exc_page_fault+40 {:?}", at("asm_exc_page_fault", 40));
        println!(
            "  ret_from_fork_asm {:?}",
            symbols.by_name("ret_from_fork_asm").next().map(|s| table.find(&memory, s.address))
        );
        let mut kinds = std::collections::BTreeMap::new();
        let code: Vec<_> = symbols.iter().filter(|s| s.kind.is_code() && s.size.is_some()).collect();
        let undefined = code
            .iter()
            .filter(|s| table.find(&memory, s.address).unwrap().unwrap().kind == OrcKind::Undefined);
        println!("  undefined: {:?}", undefined.map(|s| s.name).step_by(700).collect::<Vec<_>>());
        timed("look-ups of all functions", || {
            for symbol in &code {
                let entry = table.find(&memory, symbol.address).unwrap().unwrap();
                *kinds.entry(format!("{:?} {:?}", entry.kind, entry.sp)).or_insert(0) += 1;
            }
        });
        println!("  {} functions: {kinds:?}", code.len());
    }
}
