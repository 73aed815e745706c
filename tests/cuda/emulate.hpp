// CUDA C++ on the CPU: what a kernel's text needs to be compiled by g++ (-std=c++20) and run thread
// by thread. Not a simulator of time: it answers "is the result right, and is the program legal".
//
//   emu::launch({gx, gy, gz}, {bx, by, bz}, dynamic_shared_bytes, [&] { kernel(arguments...); });
//
// Threads of a block are fibers on one OS thread (fiber.hpp); blocks run one after the other. It ends
// with emu::Failure at: a barrier that not all threads reach, or reach at different lines; a warp
// operation whose named lanes do not come, or come with other masks; ldmatrix, cp.async and shared
// accesses through ptx.hpp that leave shared memory, are misaligned, read what nobody wrote, or race
// (shared.hpp). Shared memory starts as NaN in each block. Ordinary loads and stores through pointers
// are not seen: compile with -fsanitize=address, too.
//
// The order in which threads run is shuffled by emu::options.seed.
#pragma once

#include "emulate/fiber.hpp"
#include "emulate/block.hpp"
#include "emulate/types.hpp"
#include "emulate/warp.hpp"
#include "emulate/shared.hpp"
#include "emulate/math.hpp"
#include "emulate/ptx.hpp"
