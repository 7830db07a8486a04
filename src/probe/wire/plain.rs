//! Payload over TCP as it is: the kernel throws away what comes, and sends a file that is always there.

use std::{future::poll_fn, io, os::fd::AsFd as _, task::Context};

use tokio::io::AsyncWriteExt as _;

use super::{LARGE, pattern};
use crate::{low_water::LowWater, probe::net::Conn};

/// One call takes so many bytes at most.
const AT_ONCE: usize = 1024 * 1024;

/// Takes what there is, `limit` at most, and says how much it was; 0: the peer has ended. The buffer only lends its
/// address.
pub(super) async fn discard(
    conn: &mut Conn,
    low_water: &mut LowWater,
    buffer: &mut Vec<u8>,
    limit: u64,
) -> io::Result<u64> {
    buffer.clear();
    buffer.reserve(AT_ONCE);
    let room = AT_ONCE.min(usize::try_from(limit).unwrap_or(AT_ONCE));
    let nowhere = &mut buffer.spare_capacity_mut()[..room];
    // Where a body ends with the connection, its end is what is certain to come.
    let take = |conn: &mut Conn, cx: &mut Context<'_>| conn.poll_discard(cx, nowhere);
    low_water.take(conn, room, |conn| Some(conn.socket()), take).await.map(|taken| taken as u64)
}

/// Sends so many bytes of payload.
pub(super) async fn transmit(conn: &Conn, length: u64, mut moved: impl FnMut(u64)) -> io::Result<()> {
    let mut at = 0;
    let mut by_file = true;
    while at < length {
        let left = usize::try_from(length - at).unwrap_or(usize::MAX);
        let sent = match pattern::file(at) {
            Some((file, offset, there)) if by_file => {
                let count = there.min(left);
                match poll_fn(|cx| conn.poll_send_file(cx, file.as_fd(), offset, count)).await {
                    // Some kernels send no files, or not from memory.
                    Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) => {
                        by_file = false;
                        continue;
                    }
                    sent => sent?,
                }
            }
            _ => {
                let bytes = pattern::from(at);
                conn.clone().write(&bytes[..bytes.len().min(LARGE).min(left)]).await?
            }
        };
        at += sent as u64;
        moved(sent as u64);
    }
    Ok(())
}
