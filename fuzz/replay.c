/* Has the libjpeg-turbo that redecode calls read stripped files, under valgrind:

       python fuzz/coefficients.py 2000 --stripped FOLDER
       gcc -g -o replay fuzz/replay.c -ldl
       find FOLDER -name '*.jpg' | valgrind --error-exitcode=9 ./replay .../pillow.libs/libjpeg-*.so.62*

   The same functions in the same order as in src/redecode/codec/libjpeg.py; every coefficient is looked at, so that valgrind tells of those
   that were never written. Needs the headers of a libjpeg-turbo of the interface 62 (libjpeg62-turbo-dev), as Pillow's wheels bring it. */

#include <dlfcn.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

static jmp_buf fatal;

static void leave(j_common_ptr decompressor) { longjmp(fatal, 1); }

static void pass_over(j_common_ptr decompressor, int level) {}

int main(int count, char **arguments) {
  void *library = dlopen(arguments[count - 1], RTLD_NOW);
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
  struct jpeg_error_mgr *(*std_error)(struct jpeg_error_mgr *) = dlsym(library, "jpeg_std_error");
  void (*create)(j_decompress_ptr, int, size_t) = dlsym(library, "jpeg_CreateDecompress");
  void (*source)(j_decompress_ptr, const unsigned char *, unsigned long) = dlsym(library, "jpeg_mem_src");
  int (*consume)(j_decompress_ptr) = dlsym(library, "jpeg_consume_input");
  jvirt_barray_ptr *(*read)(j_decompress_ptr) = dlsym(library, "jpeg_read_coefficients");
  void (*destroy)(j_decompress_ptr) = dlsym(library, "jpeg_destroy_decompress");
  char path[4096];
  long files = 0, done = 0, set = 0;
  while (fgets(path, sizeof path, stdin)) {
    path[strcspn(path, "\n")] = 0;
    static unsigned char data[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file) return 2;
    long size = fread(data, 1, sizeof data, file);
    fclose(file);
    struct jpeg_error_mgr errors;
    struct jpeg_decompress_struct decompressor;
    decompressor.err = std_error(&errors);
    errors.error_exit = leave;
    errors.emit_message = pass_over;
    create(&decompressor, JPEG_LIB_VERSION, sizeof decompressor);
    files++;
    if (!setjmp(fatal)) {
      source(&decompressor, data, size);
      consume(&decompressor);
      jvirt_barray_ptr *arrays = read(&decompressor);
      for (int i = 0; i < decompressor.num_components; i++) {
        jpeg_component_info *component = &decompressor.comp_info[i];
        for (JDIMENSION row = 0; row < component->height_in_blocks; row++) {
          JBLOCKROW blocks = decompressor.mem->access_virt_barray((j_common_ptr)&decompressor, arrays[i], row, 1, FALSE)[0];
          for (JDIMENSION column = 0; column < component->width_in_blocks; column++)
            for (int k = 0; k < DCTSIZE2; k++)
              if (blocks[column][k]) set++;
        }
      }
      done++;
    }
    destroy(&decompressor);
  }
  printf("%ld files, %ld of them read, %ld coefficients other than 0\n", files, done, set);
  return 0;
}
