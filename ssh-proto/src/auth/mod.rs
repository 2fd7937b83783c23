//! User authentication (RFC 4252, RFC 4256).
