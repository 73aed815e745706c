// What the machine counted, as JSON when the process ends (CUDA_MACHINE_REPORT names the file),
// and line by line while it runs (CUDA_MACHINE_TRACE).
#include "machine.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *trace;

static void open_trace(void) {
    const char *path = getenv("CUDA_MACHINE_TRACE");
    if (path && *path) trace = fopen(path, "w");
}

void machine_trace(const char *what, uint64_t bytes) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_trace);
    if (trace)
        fprintf(trace, "%s %lu now %lu launches %lu\n", what, bytes, counted.device_now,
                counted.launches);
}

static void name(FILE *out, const char *text) {
    for (; *text; text++) fputc(*text == '"' || *text == '\\' ? '_' : *text, out);
}

void machine_report(void) {
    const char *path = getenv("CUDA_MACHINE_REPORT");
    if (!path || !*path) return;
    FILE *out = fopen(path, "w");
    if (!out) {
        machine_say("cannot write %s", path);
        return;
    }
    const struct card *card = machine_card();
    fprintf(out, "{\n  \"card\": \"%s\",\n  \"mode\": \"%s\",\n  \"memory\": %lu,\n", card->name,
            machine_runs ? "run" : "count", machine_memory());
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"device_bytes_now", counted.device_now},
        {"device_bytes_peak", counted.device_peak},
        {"allocations", counted.allocations},
        {"frees", counted.frees},
        {"allocations_refused", counted.refused},
        {"pinned_bytes_now", counted.pinned_now},
        {"pinned_bytes_peak", counted.pinned_peak},
        {"modules", counted.modules},
        {"launches", counted.launches},
        {"launch_nanoseconds", counted.launch_nanoseconds},
        {"synchronisations", counted.stream_syncs + counted.event_syncs + counted.context_syncs +
                                 counted.blocking_copies},
        {"stream_synchronisations", counted.stream_syncs},
        {"event_synchronisations", counted.event_syncs},
        {"context_synchronisations", counted.context_syncs},
        {"blocking_copies", counted.blocking_copies},
        {"queries", counted.queries},
        {"copies_to_device", counted.to_device},
        {"bytes_to_device", counted.to_device_bytes},
        {"copies_to_host", counted.to_host},
        {"bytes_to_host", counted.to_host_bytes},
        {"copies_on_device", counted.on_device},
        {"bytes_on_device", counted.on_device_bytes},
        {"memsets", counted.memsets},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        fprintf(out, "  \"%s\": %lu,\n", rows[i].name, rows[i].value);
    fprintf(out, "  \"kernels\": [");
    const char *comma = "";
    for (struct module *module = module_all(); module; module = module->next)
        for (struct kernel *kernel = module->kernels; kernel; kernel = kernel->next) {
            fprintf(out, "%s\n    {\"name\": \"", comma);
            name(out, kernel->name);
            fprintf(out, "\", \"launches\": %lu, \"nanoseconds\": %lu}", kernel->launches,
                    kernel->nanoseconds);
            comma = ",";
        }
    fprintf(out, "\n  ]\n}\n");
    fclose(out);
}
