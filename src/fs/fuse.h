// libfuse's low-level interface, at the one version of it that all files use.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
