//! Small images of every format, by their bytes.
