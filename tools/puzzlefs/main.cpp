#include <csignal>
#include <iostream>

#include "fs/daemon.h"
#include "puzzlefs/command_line.h"

int main(int argc, char** argv) {
  puzzlefs::fs::open_missing_streams();
  std::signal(SIGXFSZ, SIG_IGN);  // what may be written no further is told as any other failure
  puzzlefs::tools::Terminal terminal(std::cout, std::cerr);
  return puzzlefs::tools::run(argc, argv, terminal);
}
