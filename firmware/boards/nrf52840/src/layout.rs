//! The chip's flash from its beginning to its end: bootloader, its page, two images of the firmware, and the node's own pages.

/// The bootloader, which nobody replaces over the line.
pub const BOOT_BYTES: u32 = 24 * 1024;
/// What the bootloader remembers.
pub const STATE_AT: u32 = BOOT_BYTES;
pub const STATE_BYTES: u32 = PAGE_BYTES;
/// The image that runs.
pub const IMAGE_AT: u32 = STATE_AT + STATE_BYTES;
pub const IMAGE_BYTES: u32 = 420 * 1024;
/// The other image, and the page that the swap needs.
pub const SECOND_AT: u32 = IMAGE_AT + IMAGE_BYTES;
pub const SECOND_BYTES: u32 = IMAGE_BYTES + PAGE_BYTES;
/// Two pages of log, two slots of six pages each, two pages of faults.
pub const PAGES_AT: u32 = 960 * 1024;
pub const PAGES_BYTES: u32 = 64 * 1024;
/// The watchdog of both: four seconds. It runs on through a restart, so both must say the same.
pub const DOG_TICKS: u32 = 4 * 32_768;

const PAGE_BYTES: u32 = 4096;
const _: () = assert!(SECOND_AT + SECOND_BYTES <= PAGES_AT);
