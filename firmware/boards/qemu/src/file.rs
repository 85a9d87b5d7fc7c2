//! Files of the host through semihosting: windows to read, and the flash that survives a power cut.

use cortex_m_semihosting::syscall;

/// An open file.
pub struct File(usize);

/// How to open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It must exist.
    Read = 1,
    /// It must exist.
    ReadWrite = 3,
    /// It is made anew.
    Create = 7,
}

impl File {
    /// Opens a file; the path ends with a zero byte.
    pub fn open(path: &core::ffi::CStr, mode: Mode) -> Option<Self> {
        // SAFETY: the path lives through the call and its length is right.
        let handle = unsafe { syscall!(OPEN, path.as_ptr(), mode as usize, path.count_bytes()) };
        (handle != usize::MAX).then_some(Self(handle))
    }

    /// Reads until the room is full or the file ends; how many bytes.
    pub fn read(&mut self, room: &mut [u8]) -> usize {
        // SAFETY: the room is ours for the call.
        let missing = unsafe { syscall!(READ, self.0, room.as_mut_ptr(), room.len()) };
        room.len() - missing.min(room.len())
    }

    /// Writes all of it; `false` when the host did not.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        // SAFETY: the bytes live through the call.
        unsafe { syscall!(WRITE, self.0, bytes.as_ptr(), bytes.len()) == 0 }
    }

    /// Goes to a place in it.
    pub fn seek(&mut self, place: usize) -> bool {
        // SAFETY: two plain numbers.
        unsafe { syscall!(SEEK, self.0, place) == 0 }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the handle is open.
        unsafe { syscall!(CLOSE, self.0) };
    }
}
