#include <iostream>

#include "puzzlefs/command_line.h"

int main(int argc, char** argv) {
  puzzlefs::tools::Terminal terminal(std::cout, std::cerr);
  return puzzlefs::tools::run(argc, argv, terminal);
}
