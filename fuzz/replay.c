/* Has jpeglib's libjpeg-turbo read stripped files, under valgrind:

       python fuzz/coefficients.py 2000 --stripped FOLDER
       gcc -g -o replay fuzz/replay.c -ldl
       find FOLDER -name '*.jpg' | valgrind --error-exitcode=9 ./replay .../jpeglib/cjpeglib/cjpeglib_turbo210.abi3.so

   The buffers have the sizes that redecode gives them, computed from the frame header, so that valgrind sees every byte beside them. */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*read_markers)(const char *, unsigned char *);
typedef int (*read_dct)(const char *, short *, short *, short *, short *, unsigned short *, short *);

static long divided_up(long a, long b) { return (a + b - 1) / b; }

/* The frame header of a file, which is the first of its kind: -1 if there is none. */
static long frame_at(const unsigned char *data, long size) {
  long at = 2;
  while (at + 10 < size) {
    int marker = data[at + 1];
    if (marker >= 0xC0 && marker <= 0xCA && marker != 0xC4 && marker != 0xC8) return at;
    at += 2 + (data[at + 2] << 8 | data[at + 3]);
  }
  return -1;
}

int main(int count, char **arguments) {
  void *library = dlopen(arguments[count - 1], RTLD_NOW);
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
  read_markers markers = (read_markers)dlsym(library, "read_jpeg_markers");
  read_dct dct = (read_dct)dlsym(library, "read_jpeg_dct");
  char path[4096];
  long files = 0, done = 0;
  while (fgets(path, sizeof path, stdin)) {
    path[strcspn(path, "\n")] = 0;
    static unsigned char data[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file) return 2;
    long size = fread(data, 1, sizeof data, file), at = frame_at(data, size);
    fclose(file);
    if (at < 0) continue;
    long height = data[at + 5] << 8 | data[at + 6], width = data[at + 7] << 8 | data[at + 8];
    int components = data[at + 9], h_max = 1, v_max = 1;
    short *buffers[4] = {0};
    for (int i = 0; i < components; i++) {
      int h = data[at + 11 + 3 * i] >> 4, v = data[at + 11 + 3 * i] & 15;
      if (h > h_max) h_max = h;
      if (v > v_max) v_max = v;
    }
    for (int i = 0; i < components; i++) {
      int h = data[at + 11 + 3 * i] >> 4, v = data[at + 11 + 3 * i] & 15;
      long rows = divided_up(height * v, 8 * v_max), columns = divided_up(width * h, 8 * h_max);
      buffers[i] = malloc(rows * columns * 64 * sizeof(short));
    }
    unsigned char none[1];
    files++;
    done += markers(path, none) && dct(path, buffers[0], buffers[1], buffers[2], buffers[3], NULL, NULL);
    for (int i = 0; i < components; i++) free(buffers[i]);
  }
  printf("%ld files, %ld of them read\n", files, done);
  return 0;
}
