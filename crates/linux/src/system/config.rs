//! The kernel's configuration, where it carries it (`CONFIG_IKCONFIG`, kernel/configs.c).

use std::io::Read as _;

use flate2::read::GzDecoder;
use kdive_target::{Field, Kernel, Lacks};

/// Before 5.1 the data lay between these marks.
const MARK: &[u8] = b"IKCFG_ST";
/// Real ones are a few hundred KiB, unpacked.
const MAX_BYTES: u64 = 16 << 20;

/// The text of the configuration.
pub fn config(kernel: &Kernel) -> Field<String> {
    let start = kernel.symbol("kernel_config_data")?;
    let length = match kernel.symbol("kernel_config_data_end") {
        Ok(end) => end.since(start),
        // Before 5.1 no symbol ends it; gzip ends itself.
        Err(_) => 1 << 20,
    };
    if length > MAX_BYTES {
        return Err(Lacks::implausible("the kernel's configuration is larger than any"));
    }
    let mut packed = vec![0; length as usize];
    let (count, missing) = kernel.memory().read(start, &mut packed);
    packed.truncate(count);
    let data = packed.strip_prefix(MARK).unwrap_or(&packed);
    let mut text = Vec::new();
    let read = GzDecoder::new(data).take(MAX_BYTES).read_to_end(&mut text);
    match (read, missing) {
        (Ok(_), _) => Ok(crate::log::log_text(&text)),
        (Err(_), Some(missing)) => Err(missing.into()),
        (Err(error), None) => {
            Err(Lacks::implausible(format_args!("the kernel's configuration does not unpack: {error}")))
        }
    }
}
