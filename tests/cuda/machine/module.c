// Modules: finds the entry points of PTX text and, where kernels run, has it translated to C by
// ptx and compiled by the C compiler. What was compiled is kept in CUDA_MACHINE_CACHE.
#define _GNU_SOURCE
#include "lane.h"
#include "machine.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MACHINE_SOURCE
#error "MACHINE_SOURCE: the folder of ptx and device.h, given by the script `run`"
#endif
#ifndef MACHINE_VERSION
#error "MACHINE_VERSION: a hash of ptx and device.h, given by the script `run`"
#endif

static struct module *modules;
static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER;

struct module *module_all(void) { return modules; }

struct kernel *module_kernel(struct module *module, const char *name) {
    for (struct kernel *kernel = module ? module->kernels : NULL; kernel; kernel = kernel->next)
        if (!strcmp(kernel->name, name)) return kernel;
    return NULL;
}

static bool starts(const char *line, const char *with) {
    while (*line == ' ' || *line == '\t') line++;
    return !strncmp(line, with, strlen(with));
}

// A hash of the text without its debugging lines, which name folders of the machine.
static void hash(const char *text, char out[33]) {
    uint64_t a = 0xcbf29ce484222325ull, b = 0x9e3779b97f4a7c15ull;
    for (const char *line = text; *line;) {
        const char *end = strchrnul(line, '\n');
        if (starts(line, ".section")) break;
        if (!starts(line, ".loc") && !starts(line, ".file"))
            for (const char *at = line; at <= end && *at; at++) {
                a = (a ^ (unsigned char)*at) * 0x100000001b3ull;
                b = (b + (unsigned char)*at) * 0xff51afd7ed558ccdull;
                b ^= b >> 29;
            }
        line = *end ? end + 1 : end;
    }
    snprintf(out, 33, "%016lx%016lx", a, b);
}

static void find_kernels(struct module *module) {
    int shared = 0;
    for (const char *line = module->text; *line;) {
        const char *end = strchrnul(line, '\n');
        const char *entry = memmem(line, (size_t)(end - line), ".entry ", 7);
        char kind[8], name[256];
        int align, count;
        if (entry && sscanf(entry, ".entry %255[^( \n]", name) == 1) {
            struct kernel *kernel = calloc(1, sizeof *kernel);
            kernel->name = strdup(name);
            kernel->max_threads = 1024;
            kernel->next = module->kernels;
            module->kernels = kernel;
        } else if (module->kernels && starts(line, ".maxntid")) {
            int x = 1, y = 1, z = 1;
            sscanf(strstr(line, ".maxntid"), ".maxntid %d, %d, %d", &x, &y, &z);
            module->kernels->max_threads = x * y * z;
        } else if (starts(line, ".shared") &&
                   sscanf(strstr(line, ".shared"), ".shared .align %d .%7s %255[^[][%d]", &align,
                          kind, name, &count) == 4) {
            int unit = !strcmp(kind, "b64") ? 8 : !strcmp(kind, "b32") ? 4 : !strcmp(kind, "b16") ? 2 : 1;
            shared = (shared + align - 1) / align * align + unit * count;
        }
        line = *end ? end + 1 : end;
    }
    for (struct kernel *kernel = module->kernels; kernel; kernel = kernel->next)
        kernel->static_shared = shared;
}

// Translates and compiles, or finds what was compiled before.
static bool translate(struct module *module) {
    char name[33], ptx[2048], library[2048], command[8192];
    const char *cache = getenv("CUDA_MACHINE_CACHE");
    if (!cache || !*cache || strlen(cache) > 1024) {
        machine_say("CUDA_MACHINE_CACHE names no folder for the compiled kernels");
        return false;
    }
    hash(module->text, name);
    snprintf(ptx, sizeof ptx, "%s/%s-%s.ptx", cache, MACHINE_VERSION, name);
    snprintf(library, sizeof library, "%s/%s-%s.so", cache, MACHINE_VERSION, name);
    if (access(library, R_OK)) {
        mkdir(cache, 0777);
        FILE *out = fopen(ptx, "w");
        if (!out || fputs(module->text, out) < 0 || fclose(out)) {
            machine_say("cannot write %s", ptx);
            return false;
        }
        snprintf(command, sizeof command, "'%s/translate' '%s' '%s'", MACHINE_SOURCE, ptx, library);
        if (system(command)) {
            machine_say("%s was not translated", ptx);
            return false;
        }
    }
    module->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    const struct ptx_kernel *found = module->library ? dlsym(module->library, "ptx_kernels") : NULL;
    if (!found) {
        machine_say("%s: %s", library, dlerror());
        return false;
    }
    for (; found->name; found++) {
        struct kernel *kernel = module_kernel(module, found->name);
        if (!kernel) continue;
        kernel->translated = (void *)found;
        kernel->static_shared = (int)found->static_shared;
        kernel->max_threads = (int)found->max_threads;
    }
    return true;
}

struct module *module_load(const char *ptx, int *status) {
    *status = CUDA_ERROR_INVALID_IMAGE;
    if (!strstr(ptx, ".version") || !strstr(ptx, ".entry")) {
        machine_say("a module is not PTX text");
        return NULL;
    }
    struct module *module = calloc(1, sizeof *module);
    module->text = strdup(ptx);
    find_kernels(module);
    pthread_mutex_lock(&module_lock);
    bool good = !machine_runs || translate(module);
    if (good) {
        module->next = modules;
        modules = module;
        counted.modules++;
        *status = CUDA_SUCCESS;
    }
    pthread_mutex_unlock(&module_lock);
    return good ? module : NULL;
}
