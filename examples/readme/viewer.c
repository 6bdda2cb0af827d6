/* SPDX-License-Identifier: MIT */
#include <holdfast/holdfast.h>
#include <stdio.h>

int main(void) {
  hf_client* client = NULL;
  hf_subscriber* subscriber = NULL;
  hf_subscriber_options options = {.struct_size = sizeof options, .delivery = HF_LOSSLESS};
  hf_view view;
  int result = hf_client_open(NULL, &client);
  if (result == HF_OK) result = hf_subscriber_open(client, "camera/image", &options, &subscriber);
  while (result == HF_OK && (result = hf_take_wait(subscriber, -1, &view)) == HF_OK) {
    printf("%zu bytes of '%c'\n", (size_t)view.bytes, *(const char*)hf_view_data(&view));
    hf_view_release(&view);
  }
  if (result < 0) fprintf(stderr, "%s\n", hf_last_error());
  hf_subscriber_close(subscriber);
  hf_client_close(client);
  return result != HF_FINISHED;
}
