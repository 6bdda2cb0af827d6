/* SPDX-License-Identifier: MIT
 *
 * Reads every sample where it lies, until its publisher is gone: subscribe_c [TOPIC]
 */
#include <holdfast/holdfast.h>

#include <inttypes.h>
#include <stdio.h>

int main(int argc, char** argv) {
  hf_client* client = NULL;
  hf_subscriber* subscriber = NULL;
  hf_subscriber_options options = {.struct_size = sizeof options, .delivery = HF_LOSSLESS};
  int result = hf_client_open(NULL, &client);
  if (result == HF_OK)
    result = hf_subscriber_open(client, argc > 1 ? argv[1] : "example/blocks", &options, &subscriber);
  while (result == HF_OK) {
    hf_view view;
    result = hf_take_wait(subscriber, -1, &view);
    if (result == HF_OK) {
      printf("sample %" PRIu64 ": %" PRIu64 " bytes of '%c'\n", view.position, view.bytes,
             *(const char*)hf_view_data(&view));
      hf_view_release(&view);
    }
  }
  if (result < 0)
    fprintf(stderr, "%s: %s\n", hf_result_name(result), hf_last_error());
  else
    printf("%s\n", hf_result_name(result));
  hf_subscriber_close(subscriber);
  hf_client_close(client);
  return result < 0 ? 1 : 0;
}
