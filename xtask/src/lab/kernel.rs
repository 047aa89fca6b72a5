//! Stock kernels: which the archive has, download, unpack, and the crasher module for each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::guest;
use super::place::{Kernel, Lab, assets, version_numbers};
use super::suite::{self, Suite};
use super::vary::{self, Source, Variation};
use crate::run;

#[derive(Args)]
pub(crate) struct PrepareArgs {
    /// Only these series (`6.12`) or suites (`unstable`); all when none is given.
    series: Vec<String>,
    /// Where Debian's packages come from, up to `/debian` (default: where this machine has its own from).
    #[arg(long)]
    mirror: Option<String>,
}

/// A line of kernels that the lab follows. The newest release of each is asked of the archive: nothing is pinned.
struct Line {
    suite: &'static str,
    /// `None`: whatever the suite has.
    series: Option<&'static str>,
}

const LINES: &[Line] = &[
    Line { suite: "bullseye", series: Some("5.10") },
    Line { suite: "bookworm", series: Some("6.1") },
    Line { suite: "bookworm", series: Some("6.12") },
    Line { suite: "unstable", series: None },
];

const FLAVOUR: &str = "-cloud-amd64";

impl Line {
    fn is_wanted(&self, wanted: &[String]) -> bool {
        let names = [Some(self.suite), self.series];
        wanted.is_empty() || wanted.iter().any(|name| names.contains(&Some(name.as_str())))
    }

    fn describe(&self) -> String {
        format!("{} of Debian {}", self.series.unwrap_or("newest kernel"), self.suite)
    }
}

/// `lab prepare`.
pub(crate) fn prepare(lab: &Lab, args: &PrepareArgs) -> Result<()> {
    suite::install_programs()?;
    let mirror = suite::mirror(args.mirror.as_deref())?;
    guest::install_tools(lab, &mirror)?;
    guest::build_programs(lab)?;
    let mut failures = Vec::new();
    let wanted = LINES.iter().filter(|line| line.is_wanted(&args.series));
    for line in wanted {
        match prepare_line(lab, line, &mirror) {
            Ok(kernel) => println!("{}: {} is ready", line.describe(), kernel.release),
            Err(error) => {
                eprintln!("SKIPPED: {}: {error:#}", line.describe());
                failures.push(line.describe());
            }
        }
    }
    if lab.kernels()?.is_empty() {
        bail!("no kernel could be prepared");
    }
    if !failures.is_empty() {
        eprintln!("the lab goes on without: {}", failures.join(", "));
    }
    Ok(())
}

/// `lab guests`.
pub(crate) fn rebuild_guests(lab: &Lab) -> Result<()> {
    guest::build_programs(lab)?;
    lab.kernels()?.iter().try_for_each(|kernel| {
        build_crasher(lab, &Suite::at(lab, &kernel.suite), kernel)?;
        guest::build_initrd(lab, kernel)
    })
}

fn prepare_line(lab: &Lab, line: &Line, mirror: &str) -> Result<Kernel> {
    let suite = Suite::at(lab, line.suite);
    suite.refresh(mirror)?;
    let releases = discover(&suite, line.series)?;
    let mut reasons = Vec::new();
    for release in &releases {
        let kernel = Kernel::new(release, suite.name());
        match unpack(lab, &suite, &kernel) {
            Ok(()) => {
                build_crasher(lab, &suite, &kernel)?;
                guest::build_initrd(lab, &kernel)?;
                kernel.save(lab)?;
                return Ok(kernel);
            }
            // The index of an old suite may name packages that its pool no longer has.
            Err(error) => {
                eprintln!("{release} cannot be had, trying an older one: {}", first_line(&error));
                reasons.push(format!("{release}: {error:#}"));
            }
        }
    }
    bail!("no release of {} could be downloaded\n{}", line.describe(), reasons.join("\n"))
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().find(|line| line.contains("E:")).unwrap_or("download failed").to_string()
}

/// The releases that the archive lists, newest first.
fn discover(suite: &Suite, series: Option<&str>) -> Result<Vec<String>> {
    let pattern = format!("^linux-image-[0-9].*{FLAVOUR}-dbg$");
    let found = suite.apt("apt-cache", &["search", "--names-only", &pattern])?;
    let mut releases: Vec<String> = found
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_prefix("linux-image-")?.strip_suffix("-dbg"))
        .filter(|release| series.is_none_or(|series| release.starts_with(&format!("{series}."))))
        // `6.12-cloud-amd64` is a package that depends on the newest; releases have three numbers.
        .filter(|release| release.split('.').count() > 2)
        .map(String::from)
        .collect();
    releases.sort_by_key(|release| std::cmp::Reverse(version_numbers(release)));
    if releases.is_empty() {
        bail!("the archive lists no such kernel");
    }
    Ok(releases)
}

/// Image, modules and debuginfo of a release, if they are not there yet.
fn unpack(lab: &Lab, suite: &Suite, kernel: &Kernel) -> Result<()> {
    let dir = lab.kernel_dir(&kernel.release);
    if lab.dir().join(kernel.vmlinux()).exists() && lab.dir().join(kernel.image()).exists() {
        return Ok(());
    }
    println!("downloading {}", kernel.release);
    let (inside, outside) = suite.scratch("unpack")?;
    download(suite, &inside, &kernel.release)?;
    let script = format!("cd {inside} && mkdir root && for deb in *.deb; do dpkg-deb -x $deb root; done");
    run::output(&mut suite.command("sh", &["-c", &script]))?;
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::rename(outside.join("root"), &dir)
        .with_context(|| format!("cannot move the kernel to {}", dir.display()))?;
    merge_usr(&dir, &kernel.release)?;
    run::output(run::command("depmod", ["-b"]).arg(&dir).arg(&kernel.release))?;
    Ok(())
}

/// Debian split the image package when it merged `/usr`: one of two sets of names exists.
fn download(suite: &Suite, inside: &str, release: &str) -> Result<()> {
    let sets = [
        vec![format!("linux-image-{release}-unsigned")],
        ["linux-binary-unsigned", "linux-modules", "linux-base"]
            .map(|name| format!("{name}-{release}"))
            .to_vec(),
    ];
    let mut errors = Vec::new();
    for set in sets {
        let script = format!(
            "cd {inside} && apt-get -o APT::Sandbox::User=root download {} linux-image-{release}-dbg",
            set.join(" ")
        );
        match run::output(&mut suite.command("sh", &["-c", &script])) {
            Ok(_) => return Ok(()),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    bail!("{}", errors.join("\n"))
}

/// A kernel of a merged `/usr` gets the paths of an older one.
fn merge_usr(dir: &Path, release: &str) -> Result<()> {
    let modules = format!("usr/lib/modules/{release}");
    if dir.join("lib/modules").exists() || !dir.join(&modules).exists() {
        return Ok(());
    }
    std::os::unix::fs::symlink("usr/lib", dir.join("lib"))?;
    run::make_dir(&dir.join("boot"))?;
    let image = std::fs::read_dir(dir.join(&modules))?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz"))
        .with_context(|| format!("no vmlinuz in {modules}"))?;
    run::copy(&image.path(), &dir.join(format!("boot/vmlinuz-{release}")))
}

/// Compiles `lab/crasher` for a kernel, with BTF where the kernel's modules have it.
fn build_crasher(lab: &Lab, suite: &Suite, kernel: &Kernel) -> Result<()> {
    let product = lab.dir().join(kernel.crasher());
    let sources = files_of(&assets().join("crasher"))?;
    if run::is_fresh(&product, &sources) {
        return Ok(());
    }
    println!("building the crasher module for {}", kernel.release);
    let outside = compile(lab, suite, kernel, "crasher", &read_sources(&sources)?)?;
    let kept = lab.kernel_dir(&kernel.release).join("crasher");
    run::fresh_dir(&kept)?;
    for file in files_of(&outside)? {
        let wanted = file.extension().is_some_and(|ext| ["c", "h", "ko"].iter().any(|known| ext == *known));
        if wanted {
            run::copy(&file, &kept.join(file.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

fn read_sources(files: &[PathBuf]) -> Result<Vec<Source>> {
    let read = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, std::fs::read_to_string(file).with_context(|| file.display().to_string())?))
    };
    files.iter().map(read).collect()
}

/// The modules in the shape of a seed.
pub(crate) struct Varied {
    pub(crate) variation: Variation,
    pub(crate) crasher: PathBuf,
    pub(crate) patcher: PathBuf,
}

/// Compiles `lab/crasher` in the shape of a seed, if that is not there yet.
pub(crate) fn build_varied(lab: &Lab, kernel: &Kernel, seed: u64) -> Result<Varied> {
    let files = files_of(&assets().join("crasher"))?;
    let (variation, sources) = vary::vary(seed, &read_sources(&files)?);
    let kept = lab.kernel_dir(&kernel.release).join(format!("seeds/{seed}"));
    let product = |name: &str| kept.join(format!("{}.ko", variation.called(name)));
    let varied = Varied { crasher: product("crasher"), patcher: product("patcher"), variation };
    if run::is_fresh(&varied.patcher, &files) {
        return Ok(varied);
    }
    println!("building the module {} for {}", varied.variation.called("crasher"), kernel.release);
    let scratch = format!("seed-{seed}");
    let outside = compile(lab, &Suite::at(lab, &kernel.suite), kernel, &scratch, &sources)?;
    run::fresh_dir(&kept)?;
    for file in [&varied.crasher, &varied.patcher] {
        run::copy(&outside.join(file.file_name().unwrap_or_default()), file)?;
    }
    Ok(varied)
}

/// Compiles modules inside the kernel's suite; returns the directory, seen from outside.
fn compile(lab: &Lab, suite: &Suite, kernel: &Kernel, scratch: &str, sources: &[Source]) -> Result<PathBuf> {
    let headers = format!("/usr/src/linux-headers-{}", kernel.release);
    if !suite.path(&headers).exists() {
        let package = format!("linux-headers-{}", kernel.release);
        suite.install(&[&package, "make", "kmod", "libc6-dev", "dwarves"])?;
    }
    place_vmlinux(&lab.dir().join(kernel.vmlinux()), &suite.path(&headers).join("vmlinux"))?;
    let (inside, outside) = suite.scratch(scratch)?;
    for (name, text) in sources {
        std::fs::write(outside.join(name), text)?;
    }
    let mut make = suite.command("make", &["-C", &headers, &format!("M={inside}"), "modules"]);
    // Debian's 6.1 headers lack this tool; the module has no BTF ids, so there is nothing to resolve.
    if !suite.path(&headers).join("tools/bpf/resolve_btfids/resolve_btfids").exists() {
        make.arg("RESOLVE_BTFIDS=true");
    }
    run::output(&mut make)?;
    Ok(outside)
}

/// The module's BTF is made against the kernel's; a link saves a copy of 300 MB where it can be made.
fn place_vmlinux(vmlinux: &Path, at: &Path) -> Result<()> {
    if at.symlink_metadata().is_ok() {
        std::fs::remove_file(at)?;
    }
    let file = vmlinux.canonicalize().with_context(|| vmlinux.display().to_string())?;
    if std::fs::hard_link(&file, at).is_err() {
        run::copy(&file, at)?;
    }
    Ok(())
}

/// The files of a directory, without its subdirectories.
pub(crate) fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_release_is_by_number_not_by_text() {
        let mut releases = ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.1.0-10-cloud-amd64"];
        releases.sort_by_key(|release| std::cmp::Reverse(version_numbers(release)));
        assert_eq!(releases[0], "6.1.0-56-cloud-amd64");
        assert_eq!(releases[2], "6.1.0-9-cloud-amd64");
    }

    #[test]
    fn a_series_is_the_first_two_numbers() {
        assert_eq!(Kernel::new("7.2.13+deb14-cloud-amd64", "unstable").series, "7.2");
        assert_eq!(Kernel::new("6.12.117+deb12-cloud-amd64", "bookworm").series, "6.12");
    }
}
