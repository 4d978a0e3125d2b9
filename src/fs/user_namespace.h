// Where this process stands among user namespaces (user_namespaces(7)).
#pragma once

namespace puzzlefs::fs {

/// Whether it is in another one than the initial one. False where that cannot be told.
bool in_user_namespace();

}  // namespace puzzlefs::fs
