//! The catalogue played on real processes in network namespaces.
