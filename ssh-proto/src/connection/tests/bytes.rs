//! Bytes in and out: buffers, back-pressure, the end of the stream.

use super::*;
