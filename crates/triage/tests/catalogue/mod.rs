//! The catalogue of failure classes: for each row a log that shows it, and a near miss, in the words of kernels from 2.6 to 7.x.
//!
//! ```text
//! # ROW                            a row of the catalogue; several samples may have the same
//! class: deleted-list-entry        the verdict's class
//! detector: bad-access             who finds it
//! function: f                      the guilty function, where there is one
//! verdict: soft-lockup             the verdict's class, where this one comes second
//! title: words                     what the title contains
//! --- match
//! the log
//! --- miss: use-after-free         what the near miss is instead; `none` for nothing, and nothing to say only what it is not
//! the log
//! ```

/// A log that shows a failure, and one that looks alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) row: &'static str,
    pub(crate) class: &'static str,
    pub(crate) detector: &'static str,
    pub(crate) function: Option<&'static str>,
    pub(crate) title: Option<&'static str>,
    pub(crate) verdict: &'static str,
    pub(crate) log: String,
    pub(crate) near_miss: String,
    pub(crate) near_miss_is: Option<&'static str>,
}

const FILES: &[&str] = &[
    include_str!("access.txt"),
    include_str!("hangs.txt"),
    include_str!("machine.txt"),
    include_str!("memory.txt"),
    include_str!("pages.txt"),
    include_str!("system.txt"),
    include_str!("traps.txt"),
];

/// Detectors that ask an image: the lab builds for them what no log shows (the rows "UAF w/o debug", "Firmware/SMM/BIOS
/// overwrite", the proof of deadlocks and leaks), and `cargo xtask accuracy` judges them.
pub(crate) const OF_IMAGES: &[&str] = &[
    "deaf-cpu-in-memory",
    "rcu-stall-in-memory",
    "interrupts-off-in-memory",
    "mapped-device-holds-io",
    "stack-in-memory",
    "freed-object-in-memory",
    "flipped-pointer-in-memory",
    "io-in-memory",
    "deadlock-in-memory",
    "hang-in-memory",
    "spinlock-in-memory",
    "panic-stack",
    "code-in-memory",
    "memory-use",
    "fragmentation-in-memory",
];

/// All samples.
pub(crate) fn samples() -> Vec<Sample> {
    FILES.iter().flat_map(|text| text.split("\n# ").flat_map(sample)).collect()
}

fn sample(text: &'static str) -> Option<Sample> {
    let (head, logs) = text.split_once("--- match\n")?;
    let (log, miss) = logs.split_once("\n--- miss")?;
    let (near_miss_is, near_miss) = miss.split_once('\n')?;
    let mut lines = head.lines();
    let row = lines.next()?.trim_start_matches("# ");
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(Sample {
        row,
        class: value("class")?,
        detector: value("detector")?,
        function: value("function"),
        title: value("title"),
        verdict: value("verdict").or_else(|| value("class"))?,
        log: log.to_owned(),
        near_miss: near_miss.to_owned(),
        near_miss_is: near_miss_is.strip_prefix(": "),
    })
}
