//! Checks against real kernels, which the repository does not hold: `KDIVE_VMLINUX=a:b cargo test -p kdive-debuginfo
//! --release --test lab -- --ignored --nocapture` with the paths of vmlinux files. Prints what it measures.

use std::time::Instant;

use kdive_debuginfo::{Blob, Btf, ElfFile, ElfKind, Tag, Types};

fn kernels() -> Vec<(String, ElfFile)> {
    let paths = std::env::var("KDIVE_VMLINUX").expect("KDIVE_VMLINUX names the vmlinux files to look at");
    let open = |path: &str| {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path.rsplit('/').next().unwrap().to_owned(), ElfFile::parse(bytes.into()).unwrap())
    };
    paths.split(':').map(open).collect()
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
        let rq = types.find(Tag::Variable, "runqueues").unwrap();
        assert_eq!(types.name_of(rq), "struct rq");
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
