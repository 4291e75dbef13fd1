//! A stream of two halves that holds what has to end with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf};

pub(super) struct Held<R, W, H> {
    pipes: Join<R, W>,
    _held: H,
}

impl<R, W, H> Held<R, W, H> {
    pub(super) fn new(reader: R, writer: W, held: H) -> Self
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        Self { pipes: tokio::io::join(reader, writer), _held: held }
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin, H: Unpin> AsyncRead for Held<R, W, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.pipes.reader_mut()).poll_read(cx, buffer)
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin, H: Unpin> AsyncWrite for Held<R, W, H> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.pipes.writer_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.pipes.writer_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.pipes.writer_mut()).poll_shutdown(cx)
    }
}
