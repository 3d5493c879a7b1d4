//! Linux hardware: V4L2 cameras.
