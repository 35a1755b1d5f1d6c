//! The classic text protocol of memcached.
