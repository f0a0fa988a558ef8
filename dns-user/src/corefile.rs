//! CoreDNS's own settings, from its Corefile.
